"""How blobfuse2 is called, as its documentation says; the program here is a double that mounts a tmpfs instead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import custom, make_spec, run, stdouterr
from trainshed.volumes import blobfuse

KEY = {"/mountVolumes/azureBlobFileSystems/0/credentials/accountKey": "a2V5LW9mLXRoZS1hY2NvdW50"}
DOUBLE = """#!/bin/bash
# A double of blobfuse2: says how it was called, mounts a tmpfs, and serves until it is unmounted.
printf '%s\\n' "$@" > FOLDER/arguments
env > FOLDER/environment
[ "$AZURE_STORAGE_ACCOUNT_CONTAINER" != none ] || { echo "Error: container none does not exist"; exit 1; }
mount -t tmpfs none "$2" || exit 1
while mountpoint -q "$2"; do sleep 0.02; done
"""


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: None) -> Path:
    """A folder on the PATH with the double, where it writes too."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "blobfuse2"
    program.write_text(DOUBLE.replace("FOLDER", str(folder)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert blobfuse.is_installed()
    return folder


def container(name: str, **more: Any) -> dict[str, Any]:
    entry = {"accountName": "acct", "containerName": name, "relativeMountPath": "v", **more}
    return {"azureBlobFileSystems": [entry]}


def test_how_it_is_called(tmp_path: Path, double: Path) -> None:
    volumes = container("data", mountOptions="-o attr_timeout=5 -o umask=027 --file-cache-timeout-in-seconds=60")
    job = custom("findmnt -n -o FSTYPE -T $AZ_BATCHAI_JOB_MOUNT_ROOT/v", mountVolumes=volumes)
    outcome = run(make_spec(tmp_path, job), private=KEY)
    assert outcome.result == "succeeded", outcome
    assert (stdouterr(tmp_path) / "stdout.txt").read_text() == "tmpfs\n"
    arguments = (double / "arguments").read_text().splitlines()
    assert arguments[0] == "mount" and "--foreground=true" in arguments and "--container-name=data" in arguments
    assert {"-o attr_timeout=5", "-o umask=0027", "--file-cache-timeout=60", "--allow-other"} <= set(arguments)
    environment = dict(line.partition("=")[::2] for line in (double / "environment").read_text().splitlines())
    (key,) = KEY.values()
    assert environment["AZURE_STORAGE_ACCESS_KEY"] == key and key not in "".join(arguments)
    assert environment["AZURE_STORAGE_BLOB_ENDPOINT"] == "https://acct.blob.core.windows.net"
    assert "TRAINSHED_HOME" not in environment


def test_its_own_words_are_passed_on(tmp_path: Path, double: Path) -> None:
    outcome = run(make_spec(tmp_path, custom("true", mountVolumes=container("none"))), private=KEY)
    assert outcome.reason is not None and outcome.reason["code"] == "BFSMountError"
    assert "container none does not exist" in outcome.reason["text"]
