"""Rules for the volumes that 2026-11-01 adds, beyond types and ranges."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from urllib.parse import SplitResult, urlsplit

from trainshed.resources.common import KeyVaultSecretReference, Secret
from trainshed.resources.findings import Findings
from trainshed.resources.newer_mounts import GitRepository, HostDirectory, ReadCache, S3Bucket, SftpDirectory

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]+\]?", re.ASCII)
_USER = re.compile(r"[^\s:@,/\\\x00-\x1f-][^\s:@,/\\\x00-\x1f]*")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@#=%-]*", re.ASCII)
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+", re.ASCII)
GIT_SCHEMES = ("https", "http", "ssh", "git")


def check_bucket(findings: Findings, place: str, bucket: S3Bucket) -> None:
    """A name that a bucket can have, an endpoint that is a URL, a prefix that stays below, and a whole access key."""
    if not _BUCKET.fullmatch(bucket.bucket):
        findings.value(f"{place}.bucket", bucket.bucket, "cannot be a bucket's name. Leave out s3:// and prefix.")
    if bucket.prefix is not None and not _stays_below(bucket.prefix):
        way_out = "must be a path below the bucket: relative and without '..', for example train/images."
        findings.value(f"{place}.prefix", bucket.prefix, way_out)
    if bucket.endpoint is not None and not _is_plain(_url_or_none(bucket.endpoint), ("https", "http")):
        way_out = "is not the URL of a server. Write for example https://s3.example.org, without user and query."
        findings.value(f"{place}.endpoint", _without_user(bucket.endpoint), way_out)
    for member, text in (("region", bucket.region), ("provider", bucket.provider)):
        if text is not None and not _WORD.fullmatch(text):
            findings.value(f"{place}.{member}", text, "is not a name of letters, digits, '-', '_' and '.'.")
    if bucket.credentials is not None:
        given = bucket.credentials
        _check_one(
            findings,
            f"{place}.credentials",
            {"secretAccessKey": (given.secret_access_key, given.secret_access_key_secret_reference)},
        )
    _check_cache(findings, place, bucket.cache, read_only=bucket.is_read_only)


def check_sftp(findings: Findings, place: str, directory: SftpDirectory) -> None:
    """A host, a user, one way to sign in, and a host key or the explicit wish for none."""
    if not _HOST.fullmatch(directory.host):
        findings.value(f"{place}.host", directory.host, "is not a host's name or address. Give the port in port.")
    if not _USER.fullmatch(directory.user):
        findings.value(f"{place}.user", directory.user, "cannot be a user's name.")
    if any(character in directory.path for character in "\0\r\n"):
        findings.rule(f"{place}.path", "holds a NUL character or an end of line, which no path here can.")
    given = directory.credentials
    _check_one(
        findings,
        f"{place}.credentials",
        {
            "password": (given.password, given.password_secret_reference),
            "privateKey": (given.private_key, given.private_key_secret_reference),
        },
    )
    _check_host_key(findings, place, directory.host_key, skipped=directory.skip_host_key_check)
    _check_cache(findings, place, directory.cache, read_only=directory.is_read_only)


def check_host_directory(findings: Findings, place: str, directory: HostDirectory) -> None:
    """An absolute path; whether it may be mounted is the administrator's word, asked for when it is."""
    path = directory.path
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path or posixpath.normpath(path) in ("/", "//"):
        way_out = "must be a directory's absolute path without '..', for example /data/imagenet."
        findings.value(f"{place}.path", path, way_out)


def check_repository(findings: Findings, place: str, repository: GitRepository) -> None:
    """A URL without credentials, a revision that is a name, and credentials that the URL's scheme can use."""
    url = _url_or_none(repository.repository_url)
    if url is None or not (_is_plain(url, GIT_SCHEMES) or _is_plain_but_user(url)):
        way_out = (
            "is not a repository's URL. Write for example https://git.example.org/team/code.git, or "
            "ssh://git@git.example.org/team/code.git, and passwords in credentials."
        )
        findings.value(f"{place}.repositoryUrl", _without_user(repository.repository_url), way_out)
        return
    is_ssh = url.scheme == "ssh"
    revision = repository.revision
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or "@{" in revision):
        way_out = "is not a commit, branch or tag. Write for example main, v1.2 or the 40 digits of a commit."
        findings.value(f"{place}.revision", revision, way_out)
    if repository.credentials is not None:
        given = repository.credentials
        password = (given.password, given.password_secret_reference)
        private_key = (given.private_key, given.private_key_secret_reference)
        wrong, right = (password, "privateKey") if is_ssh else (private_key, "password")
        if any(wrong) or url.scheme == "git":
            what = "takes no credentials" if url.scheme == "git" else f"takes {right} only"
            findings.rule(f"{place}.credentials", f"does not fit: a URL that begins with {url.scheme}:// {what}.")
        else:
            _check_one(findings, f"{place}.credentials", {right: private_key if is_ssh else password})
    if is_ssh:
        _check_host_key(findings, place, repository.host_key, skipped=repository.skip_host_key_check)


def _url_or_none(text: str) -> SplitResult | None:
    """The parts of a URL that has a host; None for what is none."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None
    plain = not any(character.isspace() or ord(character) < 32 for character in text)
    return url if url.hostname and not url.hostname.startswith("-") and plain else None


def _is_plain(url: SplitResult | None, schemes: tuple[str, ...]) -> bool:
    return url is not None and url.scheme in schemes and "@" not in url.netloc and not url.query and not url.fragment


def _is_plain_but_user(url: SplitResult) -> bool:
    """ssh://git@host/...: there the name is part of the address, and no secret."""
    user, _, rest = url.netloc.partition("@")
    return bool(_USER.fullmatch(user)) and _is_plain(url._replace(netloc=rest), ("ssh",))


def _without_user(text: str) -> str:
    """For messages: a password may stand before the host."""
    return re.sub(r"//[^/]*@", "//***@", text)


def _stays_below(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/") and "\0" not in path


def _check_one(
    findings: Findings, place: str, ways: dict[str, tuple[Secret | None, KeyVaultSecretReference | None]]
) -> None:
    """Exactly one of the values and references that are given."""
    members = [name for member in ways for name in (member, f"{member}SecretReference")]
    given = [name for name, value in zip(members, (one for way in ways.values() for one in way), strict=True) if value]
    if len(given) != 1:
        found = f"it has {' and '.join(given)}" if given else "it has none"
        findings.rule(place, f"needs exactly one of {', '.join(members)}; {found}.")


def _check_host_key(findings: Findings, place: str, key: str | None, *, skipped: bool) -> None:
    if key is None and not skipped:
        findings.rule(
            place,
            "needs hostKey, so that nobody can pass for the server: what `ssh-keyscan HOST` prints, without the "
            "host's name. Or give skipHostKeyCheck: true, if you trust the network.",
        )
    elif key is not None and skipped:
        findings.rule(f"{place}.skipHostKeyCheck", "does not go with hostKey. Leave one of them out.")
    elif key is not None and not is_host_key(key):
        way_out = "is not a public key. Write its type and its digits, for example ssh-ed25519 AAAAC3Nza..."
        findings.value(f"{place}.hostKey", key, way_out)


def is_host_key(text: str) -> bool:
    """Whether it is a line of a public key: type, base64, perhaps a comment, which names the type again inside."""
    kind, _, rest = text.strip().partition(" ")
    if not _KEY_TYPE.fullmatch(kind) or "\n" in text:
        return False
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        return False
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")] == kind.encode()


def _check_cache(findings: Findings, place: str, cache: ReadCache | None, *, read_only: bool) -> None:
    if cache is not None and not read_only:
        findings.rule(f"{place}.cache", "is for data that is only read. Give readOnly: true, or leave it out.")
