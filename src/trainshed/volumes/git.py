"""gitRepositories: the files of one commit, read-only; fetched once for each commit and kept on the node.

git runs with nothing of the machine's configuration, takes only protocols that reach a server, and gets credentials by
its environment or by files in memory.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

from trainshed.volumes import ssh_hosts
from trainshed.volumes.daemons import run_bounded, sync_file_system
from trainshed.volumes.directory import MountedDirectory
from trainshed.volumes.node_cache import UNFINISHED, name_for, remove_unused, take
from trainshed.volumes.protocol import MOUNT_SECONDS, Mounted, MountRequest

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_MARGIN = 20.0
_HINT = "Check repositoryUrl, revision and credentials."
#: Asks the helper's own variables, so that no command line and no file has the password.
_HELPER = '!f() { printf "username=%s\\npassword=%s\\n" "$GIT_VOLUME_USER" "$GIT_VOLUME_PASSWORD"; }; f'
_NOT_OURS = ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "TRAINSHED_NODE_MARK")
_PROXIES = ("https_proxy", "http_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


def mount_repository(request: MountRequest) -> Mounted:
    """The files of a commit. Raises VolumeError."""
    if shutil.which("git") is None:
        raise request.error("there is no git on this machine", hint="Install it: apt-get install git.")
    parent = Path(request.shared) / "git"
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_unused(parent)
        return _Checkout(request, parent, name_for(request)).mount()
    except OSError as error:
        raise request.error(f"its files cannot be kept in {parent}: {error.strerror}") from error


class _Checkout:
    def __init__(self, request: MountRequest, parent: Path, name: str) -> None:
        self._request = request
        self._parent = parent
        self._name = name
        self._url: str = request.source.settings["repositoryUrl"]
        self._revision: str = request.source.settings.get("revision") or "HEAD"
        self._environment = _environment(request)
        self._until = time.monotonic() + MOUNT_SECONDS - _MARGIN

    def mount(self) -> Mounted:
        commit = self._revision if _COMMIT.fullmatch(self._revision) else self._named()
        there = take(self._tree(commit), alone=False) if commit else None
        if there is None:
            commit, there = self._fetched(commit)
        else:
            self._request.log(f"the {self._request.source.title} at {commit} is on this node already")
        self._request.log(f"the {self._request.source.title} is at commit {commit}")
        return MountedDirectory(there, read_only=True)

    def _tree(self, commit: str) -> Path:
        return self._parent / f"{self._name}-{commit}"

    def _named(self) -> str:
        """The commit of a branch or tag, as the server tells it; empty when it has none of that name."""
        name = self._revision
        wanted = [name] if name == "HEAD" else [f"refs/tags/{name}^{{}}", f"refs/tags/{name}", f"refs/heads/{name}"]
        if name.startswith("refs/"):
            wanted = [f"{name}^{{}}", name]
        told = self._git("ls-remote", "--", self._url)
        lines = [line.split("\t") for line in told.splitlines() if "\t" in line]
        commits = {reference: commit for commit, reference in lines if _COMMIT.fullmatch(commit)}
        if name == "HEAD" and name not in commits:
            raise self._request.error("it has no commit yet", hint="Push something to it, or name a branch.")
        return next((commits[reference] for reference in wanted if reference in commits), "")

    def _fetched(self, commit: str) -> tuple[str, int]:
        """The commit's files, made now; ``commit`` is empty when only its whole history can tell which it is."""
        workshop = self._parent / f"{UNFINISHED}{secrets.token_hex(8)}"
        workshop.mkdir(mode=0o700)
        try:
            repository, tree = str(workshop / "repository"), workshop / "tree"
            tree.mkdir(mode=0o700)
            self._git("init", "--quiet", "--bare", "--template=", repository)
            commit = self._fetch(repository, commit)
            environment = {"GIT_INDEX_FILE": str(workshop / "index")}
            self._git(f"--git-dir={repository}", f"--work-tree={tree}", "read-tree", "-u", "--reset", commit,
                      more=environment, where=str(tree))  # fmt: skip
            sync_file_system(str(tree))
            place = self._tree(commit)
            # Another job on this node may have been quicker: its files are the same.
            if not place.exists():
                try:
                    tree.rename(place)
                except OSError:
                    if not place.exists():
                        raise
            there = take(place, alone=False)
            if there is None:
                raise self._request.error("its files were removed while they were made", hint="Run the job again.")
            return commit, there
        finally:
            shutil.rmtree(workshop, ignore_errors=True)

    def _fetch(self, repository: str, commit: str) -> str:
        """Only the one commit, where the server gives single ones; else the whole history, and look there."""
        of = f"--git-dir={repository}"
        if commit and self._run(of, "fetch", "--quiet", "--depth=1", "--no-tags", "--", self._url, commit) is None:
            return commit
        self._git(of, "fetch", "--quiet", "--no-tags", "--", self._url, "+refs/*:refs/fetched/*")
        wanted = f"{commit or self._revision}^{{commit}}"
        found = self._run(of, "rev-parse", "--verify", "--quiet", "--end-of-options", wanted)
        if found is not None:
            what = f"it has no commit, branch or tag '{self._revision}'"
            raise self._request.error(what, found, hint="Look whether it was pushed.")
        return self._git(of, "rev-parse", "--verify", "--end-of-options", wanted).strip()

    def _run(self, *arguments: str) -> str | None:
        """None when it went well, else what git said."""
        done = self._done(arguments, {}, "/")
        return None if done.returncode == 0 else done.stderr

    def _git(self, *arguments: str, more: dict[str, str] | None = None, where: str = "/") -> str:
        done = self._done(arguments, more or {}, where)
        if done.returncode:
            raise self._request.error("git cannot fetch it", done.stderr, _HINT)
        return done.stdout

    def _done(self, arguments: tuple[str, ...], more: dict[str, str], where: str) -> subprocess.CompletedProcess[str]:
        seconds = self._until - time.monotonic()
        try:
            return run_bounded(["git", *arguments], {**self._environment, **more}, max(1.0, seconds), where)
        except subprocess.TimeoutExpired:
            what = f"git did not finish within {MOUNT_SECONDS - _MARGIN:g} s"
            raise self._request.error(what, hint="Look whether the server can be reached.") from None


def _environment(request: MountRequest) -> dict[str, str]:
    settings = request.source.settings
    url = urlsplit(settings["repositoryUrl"])
    found = {name: os.environ[name] for name in (*_NOT_OURS, *_PROXIES) if name in os.environ}
    found |= {
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git",
    }
    configured = {"core.hooksPath": "/dev/null", "http.lowSpeedLimit": "1", "http.lowSpeedTime": "30"}
    if password := request.secret("password"):
        # For this server only, wherever it may send git to.
        configured[f"credential.{url.scheme}://{url.netloc}.helper"] = _HELPER
        found["GIT_VOLUME_USER"] = (settings.get("credentials") or {}).get("user") or "git"
        found["GIT_VOLUME_PASSWORD"] = password
    if url.scheme == "ssh":
        found["GIT_SSH_COMMAND"] = _ssh_command(request)
        found["GIT_SSH_VARIANT"] = "ssh"
    found["GIT_CONFIG_COUNT"] = str(len(configured))
    for index, (name, value) in enumerate(configured.items()):
        found |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
    return found


def _ssh_command(request: MountRequest) -> str:
    """OpenSSH with no configuration, no agent and no keys but the one that is given."""
    settings = request.source.settings
    url = urlsplit(settings["repositoryUrl"])
    known, key = Path(request.folder) / "known_hosts", settings.get("hostKey")
    known.write_text(
        ssh_hosts.known_hosts_line(url.hostname or "", url.port or ssh_hosts.DEFAULT_PORT, key) if key else ""
    )
    options = [
        "BatchMode=yes", "IdentityAgent=none", "IdentitiesOnly=yes", "GlobalKnownHostsFile=/dev/null",
        f"UserKnownHostsFile={known}", f"StrictHostKeyChecking={'yes' if key else 'no'}", "ServerAliveInterval=15",
        "ConnectTimeout=15", *([f"HostKeyAlgorithms={','.join(ssh_hosts.algorithms(key))}"] if key else []),
    ]  # fmt: skip
    identity = "none"
    if private_key := request.secret("privateKey"):
        file = Path(request.folder) / "identity"
        file.touch(mode=0o600)
        file.write_text(private_key.strip() + "\n")
        identity = str(file)
    words = ["ssh", "-F", "none", "-i", identity, *(word for option in options for word in ("-o", option))]
    return shlex.join(words)
