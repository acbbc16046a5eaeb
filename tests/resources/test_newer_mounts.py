"""What 2026-11-01 adds to mountVolumes: accepted, refused in words, kept secret, and unknown to the original."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.resources.bodies import cluster, job
from trainshed.resources.definition import definition, secrets_of
from trainshed.resources.errors import InvalidResource
from trainshed.resources.parsing import parse_cluster, parse_job
from trainshed.resources.volume_sources import volume_sources

NEW, OLD = "2026-11-01", "2018-05-01"
_BLOB = base64.b64encode(b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x20" + b"k" * 32).decode()
HOST_KEY = f"ssh-ed25519 {_BLOB}"

S3 = {"bucket": "data", "relativeMountPath": "v"}
KEYS = {"accessKeyId": "AKIA", "secretAccessKey": "s3cret"}
SFTP = {
    "host": "data.example.org", "user": "alice", "credentials": {"password": "s3cret"}, "hostKey": HOST_KEY,
    "relativeMountPath": "v",
}  # fmt: skip
HOST = {"path": "/data", "relativeMountPath": "v"}
KEY = {"privateKey": "k"}
GIT = {"repositoryUrl": "https://git.example.org/team/code.git", "relativeMountPath": "v"}
REFERENCE = {
    "sourceVault": {"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/my-vault"},
    "secretUrl": "https://my-vault.vault.azure.net/secrets/one",
}


def volumes(kind: str, entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = {**entry, **more}
    return {kind: [{name: value for name, value in made.items() if value is not ...}]}


ACCEPTED = [
    ("s3Buckets", S3, {}),
    ("s3Buckets", S3, {"prefix": "train/images", "endpoint": "https://s3.example.org:9000", "region": "eu-west-1"}),
    ("s3Buckets", S3, {"credentials": KEYS, "provider": "Minio"}),
    ("s3Buckets", S3, {"credentials": {"accessKeyId": "A", "secretAccessKeySecretReference": REFERENCE}}),
    ("s3Buckets", S3, {"readOnly": True, "cache": {"maxSizeInGB": 50}}),
    ("sftpDirectories", SFTP, {"port": 2222, "path": "/data", "readOnly": True}),
    ("sftpDirectories", SFTP, {"hostKey": ..., "skipHostKeyCheck": True, "host": "192.0.2.7"}),
    ("sftpDirectories", SFTP, {"credentials": {"privateKeySecretReference": REFERENCE}}),
    ("hostDirectories", HOST, {"readOnly": True}),
    ("gitRepositories", GIT, {"revision": "v1.2/fix", "credentials": {"password": "token"}}),
    ("gitRepositories", GIT, {"repositoryUrl": "git://127.0.0.1:9418/x", "revision": "a" * 40}),
    ("gitRepositories", GIT, {"repositoryUrl": "ssh://git@h:22/x", "credentials": KEY, "hostKey": HOST_KEY}),
    ("azureBlobFileSystems", {"accountName": "a", "containerName": "c", "relativeMountPath": "v",
                              "credentials": {"accountKey": "s3cret"}}, {"cache": {"maxSizeInGB": 1}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "entry", "more"), ACCEPTED)
def test_accepted_by_the_newer_version_and_ignored_by_the_original(
    kind: str, entry: dict[str, Any], more: dict[str, Any]
) -> None:
    given = volumes(kind, entry, **more)
    properties = parse_job(job(mountVolumes=given), NEW).model
    stored = definition(properties)["mountVolumes"]
    assert set(given[kind][0]) <= set(stored[kind][0]) and "s3cret" not in str(stored)
    (source,) = volume_sources(stored, "/mountVolumes")
    assert source.secret("none", secrets_of(properties)) is None and source.relative_path == "v"
    ignored = parse_job(job(mountVolumes=given), OLD).ignored
    place = f"properties.mountVolumes.{kind}"
    assert ignored == ((f"{place}[0].cache",) if kind == "azureBlobFileSystems" else (place,))


def test_secrets_are_taken_out() -> None:
    given = {
        **volumes("s3Buckets", S3, credentials=KEYS),
        **volumes("sftpDirectories", {**SFTP, "relativeMountPath": "w"}),
        **volumes("gitRepositories", {**GIT, "relativeMountPath": "x"}, credentials={"user": "u", "password": "t"}),
    }
    model = parse_cluster(cluster(nodeSetup={"mountVolumes": given}), NEW).model
    place = "/nodeSetup/mountVolumes"
    found = {path: value for path, value in secrets_of(model).items() if path.startswith(place)}
    assert found == {
        f"{place}/s3Buckets/0/credentials/secretAccessKey": "s3cret",
        f"{place}/sftpDirectories/0/credentials/password": "s3cret",
        f"{place}/gitRepositories/0/credentials/password": "t",
    }
    stored = definition(model)["nodeSetup"]["mountVolumes"]
    assert stored["s3Buckets"][0]["credentials"] == {"accessKeyId": "AKIA"}
    assert stored["sftpDirectories"][0]["credentials"] == {}
    assert stored["gitRepositories"][0]["credentials"] == {"user": "u"}
    titles = [source.title for source in volume_sources(stored, place)]
    assert titles == [
        "S3 bucket data", "SFTP directory data.example.org:.", "git repository https://git.example.org/team/code.git",
    ]  # fmt: skip


REFUSED = [
    ("s3Buckets", S3, {"bucket": "s3://data"}, "bucket", "cannot be a bucket's name"),
    ("s3Buckets", S3, {"prefix": "a/../b"}, "prefix", "below the bucket"),
    ("s3Buckets", S3, {"prefix": "/a"}, "prefix", "below the bucket"),
    ("s3Buckets", S3, {"endpoint": "s3.example.org"}, "endpoint", "URL of a server"),
    ("s3Buckets", S3, {"endpoint": "https://me:s3cret@h"}, "endpoint", "***@h"),
    ("s3Buckets", S3, {"provider": "My Own"}, "provider", "not a name"),
    ("s3Buckets", S3, {"credentials": {"accessKeyId": "A"}}, "credentials", "it has none"),
    ("s3Buckets", S3, {"cache": {"maxSizeInGB": 1}}, "cache", "readOnly: true"),
    ("s3Buckets", S3, {"cache": {"maxSizeInGB": 0}, "readOnly": True}, "cache.maxSizeInGB", "from 1 to"),
    ("sftpDirectories", SFTP, {"host": "h:22"}, "host", "port in port"),
    ("sftpDirectories", SFTP, {"user": "-oProxyCommand=x"}, "user", "user's name"),
    ("sftpDirectories", SFTP, {"credentials": {}}, "credentials", "it has none"),
    ("sftpDirectories", SFTP, {"credentials": {"password": "p", **KEY}}, "credentials", "password and priv"),
    ("sftpDirectories", SFTP, {"hostKey": ...}, "", "ssh-keyscan"),
    ("sftpDirectories", SFTP, {"hostKey": "ssh-ed25519 AAAA"}, "hostKey", "not a public key"),
    ("sftpDirectories", SFTP, {"hostKey": f"ssh-rsa {_BLOB}"}, "hostKey", "not a public key"),
    ("sftpDirectories", SFTP, {"skipHostKeyCheck": True}, "skipHostKeyCheck", "does not go with hostKey"),
    ("hostDirectories", HOST, {"path": "data"}, "path", "absolute path"),
    ("hostDirectories", HOST, {"path": "/data/../etc"}, "path", "absolute path"),
    ("hostDirectories", HOST, {"path": "//."}, "path", "absolute path"),
    ("gitRepositories", GIT, {"repositoryUrl": "file:///etc"}, "repositoryUrl", "not a repository's URL"),
    ("gitRepositories", GIT, {"repositoryUrl": "ext::sh -c x"}, "repositoryUrl", "not a repository's URL"),
    ("gitRepositories", GIT, {"repositoryUrl": "https://u:s3cret@h/x"}, "repositoryUrl", "https://***@h/x"),
    ("gitRepositories", GIT, {"repositoryUrl": "ssh://-oProxyCommand=x@h/y"}, "repositoryUrl", "repository's URL"),
    ("gitRepositories", GIT, {"revision": "--upload-pack=x"}, "revision", "commit, branch or tag"),
    ("gitRepositories", GIT, {"revision": "a..b"}, "revision", "commit, branch or tag"),
    ("gitRepositories", GIT, {"credentials": {"privateKey": "k"}}, "credentials", "takes password only"),
    ("gitRepositories", GIT, {"repositoryUrl": "ssh://git@h/x"}, "", "needs hostKey"),
    ("gitRepositories", GIT, {"relativeMountPath": "../x"}, "relativeMountPath", "without '..'"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "entry", "more", "member", "told"), REFUSED)
def test_refused_in_words(kind: str, entry: dict[str, Any], more: dict[str, Any], member: str, told: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        parse_job(job(mountVolumes=volumes(kind, entry, **more)), NEW)
    (problem,) = caught.value.problems
    assert problem.target == f"properties.mountVolumes.{kind}[0]{'.' if member else ''}{member}"
    assert told in problem.message and "s3cret" not in problem.message, problem.message
