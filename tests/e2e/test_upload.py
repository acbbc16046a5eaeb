"""Data sent to a share of an embedded account, by content, and read by a job on two nodes that mounts it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_service import LiveService, custom
from tests.support.program import Program
from trainshed.client import Client
from trainshed.client.effects import Request, TransportFailure
from trainshed.client.errors import ClientError

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FILES = 300


@pytest.fixture
def data(trainshed: Program, shared_service: LiveService) -> Iterator[Path]:
    """300 small files and one of 3 MiB, and an account ``upload`` for them."""
    folder = trainshed.folder / "data"
    for number in range(FILES - 1):
        path = folder / f"class-{number % 7}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 50)
    (folder / "large.bin").write_bytes(os.urandom(3 << 20))
    trainshed.ok("storage", "create", "upload")
    yield folder
    trainshed.ok("storage", "delete", "upload", "-y")


def upload(trainshed: Program, *more: str) -> list[str]:
    sent: list[str] = json.loads(trainshed.ok("storage", "upload", "data", "upload/set/v1", *more, "-o", "json").out)[
        "sent"
    ]
    return sent


def test_one_of_300_files_is_sent_and_two_nodes_read_all(
    trainshed: Program, shared_service: LiveService, data: Path
) -> None:
    assert len(upload(trainshed)) == FILES
    (data / "class-0/0.txt").write_text("changed\n")
    assert upload(trainshed, "--dry-run") == ["v1/class-0/0.txt"]
    assert upload(trainshed) == ["v1/class-0/0.txt"]
    assert upload(trainshed) == []

    client = shared_service.client
    key = client.storage_accounts.keys("upload")[0].get("value")
    share = {
        "accountName": "upload",
        "azureFileUrl": "https://upload.file.core.windows.net/set",
        "relativeMountPath": "set",
        "credentials": {"accountKey": key},
    }
    # Each node sums what it reads; then one changes a file, as jobs do, without a change of size.
    each = (
        "cd $AZ_BATCHAI_JOB_MOUNT_ROOT/set/v1 && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum "
        "> ../sum-$HOSTNAME"
    )
    then = "printf 'CHANGED\\n' > $AZ_BATCHAI_JOB_MOUNT_ROOT/set/v1/class-0/0.txt"
    properties = custom(
        then,
        str(client.clusters.get("c").id),
        2,
        mountVolumes={"azureFileShares": [share]},
        jobPreparation={"commandLine": each},
    )
    client.jobs.create("reads-upload", properties)
    job = client.jobs.wait("reads-upload", interval=0.1, timeout=100)
    assert job.execution_state.value == "succeeded", job.properties
    listed = [file.name for file in client.storage_files.list("upload", "set") if not file.is_directory]
    assert len(listed) == 2
    trainshed.ok("storage", "download", "upload/set", "--to", "back")
    back = trainshed.folder / "back"
    assert {(back / name).read_text() for name in listed} == {_sum_of(data)}
    # What the job changed is seen, and mended.
    assert (back / "v1/class-0/0.txt").read_text() == "CHANGED\n"
    assert upload(trainshed) == ["v1/class-0/0.txt"]

    (data / "class-1/1.txt").unlink()
    refused = trainshed("storage", "upload", "data", "upload/set/v1", "--delete")
    assert "Remove 1 file (v1/class-1/1.txt)" in refused.err
    upload(trainshed, "--delete", "-y")
    left = client.storage_files.list("upload", "set", path="v1/class-1")
    assert "1.txt" not in {file.name for file in left}


def test_an_interrupted_upload_goes_on(
    shared_service: LiveService, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainshed.client.sending.MOST_TOGETHER", 50)
    with Client(shared_service.client.scope, connection=shared_service.client.connection) as client:
        real, sent = client._driver._send, []

        def break_off(request: Request, *, stream: bool) -> object:
            if request.path.endswith("/content") and request.method == "POST":
                sent.append(request)
                if len(sent) > 2:
                    raise TransportFailure("the line is cut")
            return real(request, stream=stream)

        monkeypatch.setattr(client._driver, "_send", break_off)
        monkeypatch.setattr("trainshed.client.drivers.pause", lambda _: None)
        with pytest.raises(ClientError, match="the line is cut"):
            client.storage_files.upload(data, "upload", "broken")
    done = shared_service.client.storage_files.upload(data, "upload", "broken")
    assert (done.files, len(done.missing)) == (FILES, FILES - 100)
    assert shared_service.client.storage_files.upload(data, "upload", "broken").missing == ()


def _sum_of(folder: Path) -> str:
    """What the job's commands make of the folder."""
    paths = sorted((str(path.relative_to(folder)), path) for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{name}\n" for name, path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest() + "  -\n"
