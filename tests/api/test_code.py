"""Sending code: only what is missing travels, nothing half-written is ever seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from starlette.types import Message

from tests.api.service import JOB, NEW, WS, Service, delete_workspace_requested, job_body
from trainshed.api import code_store
from trainshed.client.code import snapshot_id
from trainshed.runner.code import blob_path
from trainshed.store import code, jobs

pytestmark = pytest.mark.slow

CONTENT = b"print('hello')\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MANIFEST = {"src/train.py": {"sha256": DIGEST, "mode": 0o644}, "größe.txt": {"sha256": DIGEST, "mode": 0o755}}


def put_blob(service: Service, content: bytes = CONTENT) -> int:
    digest = hashlib.sha256(content).hexdigest()
    headers = {"Content-Type": "application/octet-stream"}
    return service.send("PUT", f"{WS}/code/blobs/{digest}", content, version=NEW, headers=headers).status_code


def files(service: Service) -> list[Path]:
    return [path for path in (service.home / "code").rglob("*") if path.is_file()]


def test_upload_and_use(shed: Service) -> None:
    asked = {"sha256": [DIGEST, "0" * 64, DIGEST]}
    assert shed.send("POST", f"{WS}/code/missing", asked, version=NEW).json() == {"missing": [DIGEST, "0" * 64]}
    assert put_blob(shed) == 201
    assert shed.send("POST", f"{WS}/code/missing", asked, version=NEW).json() == {"missing": ["0" * 64]}
    # The client's own idea of a snapshot's id, so that the two cannot drift apart.
    snapshot = snapshot_id(MANIFEST)
    answer = shed.send("PUT", f"{WS}/code/snapshots/{snapshot}", MANIFEST, version=NEW)
    assert (answer.status_code, answer.json()) == (200, {"id": snapshot, "files": 2})
    assert shed.apply(lambda tx: code.get_snapshot(tx, 1, snapshot)) == MANIFEST
    assert shed.send("PUT", JOB, job_body(codeSnapshot=snapshot), version=NEW).status_code == 202
    assert shed.apply(lambda tx: jobs.get(tx, "sub/group/ws/exp/j")).code_snapshot == snapshot


def test_files_lie_where_the_runner_looks(shed: Service) -> None:
    put_blob(shed)
    path = Path(blob_path(str(shed.home / "code" / "1"), DIGEST))
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o600


def test_code_of_another_workspace_is_neither_told_nor_to_be_had(shed: Service) -> None:
    other = WS.replace("/ws", "/other")
    shed.send("PUT", other, {"location": "local"})
    put_blob(shed)
    snapshot = snapshot_id(MANIFEST)
    assert shed.send("PUT", f"{WS}/code/snapshots/{snapshot}", MANIFEST, version=NEW).status_code == 200
    asked = shed.send("POST", f"{other}/code/missing", {"sha256": [DIGEST]}, version=NEW)
    assert asked.json() == {"missing": [DIGEST]}
    stolen = shed.send("PUT", f"{other}/code/snapshots/{snapshot}", MANIFEST, version=NEW)
    assert stolen.json()["error"]["code"] == "CodeBlobMissing"
    shed.send("PUT", f"{other}/experiments/e")
    used = shed.send("PUT", f"{other}/experiments/e/jobs/j", job_body(codeSnapshot=snapshot), version=NEW)
    assert used.json()["error"]["code"] == "CodeSnapshotNotFound"


def test_the_same_again_is_the_same(shed: Service) -> None:
    assert [put_blob(shed), put_blob(shed)] == [201, 200]
    assert len(files(shed)) == 1
    snapshot = snapshot_id(MANIFEST)
    first = shed.send("PUT", f"{WS}/code/snapshots/{snapshot}", MANIFEST, version=NEW)
    assert shed.send("PUT", f"{WS}/code/snapshots/{snapshot}", MANIFEST, version=NEW).content == first.content


def test_content_of_another_hash_leaves_nothing(shed: Service) -> None:
    shed.send("PUT", f"{WS}/code/blobs/{'0' * 64}", b"other", version=NEW)
    assert files(shed) == []


def test_a_broken_upload_leaves_nothing(shed: Service) -> None:
    pieces: list[Message] = [
        {"type": "http.request", "body": CONTENT[:5], "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return pieces.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    path = f"{WS}/code/blobs/{DIGEST}"
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "PUT", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": f"api-version={NEW}".encode(), "root_path": "",
        "headers": [(b"authorization", f"Bearer {shed.tokens.admin}".encode())],
    }  # fmt: skip
    shed.run(shed.app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert files(shed) == []


def test_larger_files_than_allowed_are_refused(shed: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_store, "LARGEST_FILE", 10)
    answer = shed.send("PUT", f"{WS}/code/blobs/{DIGEST}", CONTENT, version=NEW)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "RequestEntityTooLarge")
    assert files(shed) == []


def test_a_manifest_of_files_that_were_not_sent_names_them(shed: Service) -> None:
    answer = shed.send("PUT", f"{WS}/code/snapshots/{snapshot_id(MANIFEST)}", MANIFEST, version=NEW)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "CodeBlobMissing")
    assert error["details"][0]["message"] == DIGEST


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../b", "a//b", "./a", "", ".", "a/", "nul\0", "x" * 5000, "\ud800"]
)
def test_paths_that_are_not_plain_are_refused(shed: Service, path: str) -> None:
    put_blob(shed)
    manifest = {path: {"sha256": DIGEST, "mode": 0o644}}
    error = shed.send("PUT", f"{WS}/code/snapshots/{'0' * 64}", manifest, version=NEW).json()["error"]
    assert "plain relative paths" in error["message"]


@pytest.mark.parametrize(
    "entry", [{}, {"sha256": DIGEST}, {"sha256": "x", "mode": 420}, {"sha256": DIGEST, "mode": True}, [], "x",
              {"sha256": DIGEST, "mode": 0o1777}, {"sha256": DIGEST, "mode": 420, "owner": "root"}],
)  # fmt: skip
def test_entries_of_other_shapes_are_refused(shed: Service, entry: object) -> None:
    put_blob(shed)
    answer = shed.send("PUT", f"{WS}/code/snapshots/{'0' * 64}", {"a.py": entry}, version=NEW)
    assert answer.status_code == 400
    assert "a.py" in str(answer.json()["error"])


def test_a_file_cannot_be_a_folder_too(shed: Service) -> None:
    put_blob(shed)
    entry = {"sha256": DIGEST, "mode": 0o644}
    answer = shed.send("PUT", f"{WS}/code/snapshots/{'0' * 64}", {"a": entry, "a/b": entry}, version=NEW)
    assert "both a file and a folder" in answer.json()["error"]["message"]


def test_no_snapshot_for_a_workspace_that_is_being_deleted(shed: Service) -> None:
    put_blob(shed)
    shed.apply(delete_workspace_requested)
    answer = shed.send("PUT", f"{WS}/code/snapshots/{snapshot_id(MANIFEST)}", MANIFEST, version=NEW)
    assert answer.json()["error"]["code"] == "ResourceBeingDeleted"


def test_no_code_for_an_absent_workspace(service: Service) -> None:
    assert put_blob(service) == 404
