"""Sending, listing and fetching files of shares: what travels, in which requests, and what is refused here."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from tests.client.stub_service import TOKEN, Asked, StubService, answer, refusal
from tests.client.test_files import _ranged
from trainshed.client import AsyncClient, Client, Connection, sending
from trainshed.client.errors import DownloadError, ServiceError, UploadError

SHARE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/trainshed"
    "/providers/Microsoft.Storage/storageAccounts/acct/services/files/volumes/data"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, one of which can be run, and what is never sent."""
    root = tmp_path / "images"
    (root / "d").mkdir(parents=True)
    (root / "a").write_text("aa")
    (root / "d/b").write_text("bbb")
    (root / "run.sh").write_text("#!")
    (root / "run.sh").chmod(0o755)
    (root / ".trainshedignore").write_text("*.tmp\n")
    # Git leaves data out, and so often what is to be sent.
    (root / ".gitignore").write_text("*\n")
    (root / "x.tmp").write_text("left out")
    return root


def lacks(*names: str) -> object:
    return answer({"missing": list(names)})


def batch(asked: Asked) -> tuple[list[dict[str, object]], bytes]:
    line, _, contents = asked.body.partition(b"\n")
    return json.loads(line)["files"], contents


def test_what_is_missing_travels_together(client: Client, stub: StubService, folder: Path) -> None:
    stub.on("POST", f"{SHARE}/missing", lacks("in/a", "in/run.sh"))
    stub.on("POST", f"{SHARE}/content", answer({"files": 2}))
    told: list[tuple[str, int, int]] = []
    done = client.storage_files.upload(folder, "acct", "data", path="/in/", progress=lambda *now: told.append(now))
    (question,) = stub.requests("POST", f"{SHARE}/missing")
    assert [(file["path"], file["size"], file["executable"]) for file in question.json()["files"]] == [
        ("in/.gitignore", 2, False), ("in/a", 2, False), ("in/d/b", 3, False), ("in/run.sh", 2, True),
    ]  # fmt: skip
    (sent,) = stub.requests("POST", f"{SHARE}/content")
    assert batch(sent) == (
        [
            {"path": "in/a", "sha256": hashlib.sha256(b"aa").hexdigest(), "size": 2},
            {"path": "in/run.sh", "sha256": hashlib.sha256(b"#!").hexdigest(), "size": 2, "executable": True},
        ],
        b"aa#!",
    )
    assert (done.files, done.size, done.missing_size) == (4, 9, 4)
    assert told == [("reading", 9, 9), ("sending", 4, 4)]


def test_a_large_file_travels_alone(
    client: Client, stub: StubService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SMALL", 10)
    (tmp_path / "größe.bin").write_bytes(b"x" * 11)
    stub.on("POST", f"{SHARE}/missing", lacks("größe.bin"))
    stub.on("PUT", f"{SHARE}/content", answer({}))
    client.storage_files.upload(tmp_path / "größe.bin", "acct", "data")
    (sent,) = stub.requests("PUT", f"{SHARE}/content")
    assert (sent.query["path"], sent.query["sha256"]) == ("größe.bin", hashlib.sha256(b"x" * 11).hexdigest())
    assert sent.body == b"x" * 11


def test_a_comparison_changes_nothing_and_what_is_ignored_is_not_extra(
    client: Client, stub: StubService, folder: Path
) -> None:
    file = {"fileType": "file", "properties": {"contentLength": 1}}
    stub.on("POST", f"{SHARE}/missing", lacks())

    def level(asked: Asked) -> object:
        names = {"in": ["a", "old", "x.tmp"], "in/d": ["b", "gone"]}[asked.query["directory"]]
        folders = [{"name": "d", "fileType": "directory"}] if asked.query["directory"] == "in" else []
        return answer({"value": [*({"name": name, **file} for name in names), *folders]})

    stub.on("GET", f"{SHARE}/content", level)
    found = client.storage_files.compare(folder, "acct", "data", path="in", extra=True)
    assert (found.missing, found.extra) == ((), ("in/d/gone", "in/old"))
    assert {asked.method for asked in stub.asked} == {"GET", "POST"}
    stub.on("POST", f"{SHARE}/remove", answer({"removed": 2}))
    client.storage_files.send(found)
    (removed,) = stub.requests("POST", f"{SHARE}/remove")
    assert removed.json() == {"paths": ["in/d/gone", "in/old"]}


def test_many_files_are_asked_about_in_several_questions(
    client: Client, stub: StubService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainshed.client.storage_files._ASKED_BYTES", 4)
    stub.on("POST", f"{SHARE}/missing", lacks())
    client.storage_files.compare(folder, "acct", "data")
    questions = [asked.json()["files"] for asked in stub.requests("POST", f"{SHARE}/missing")]
    assert [[file["path"] for file in asked] for asked in questions] == [[".gitignore", "a"], ["d/b"], ["run.sh"]]


def test_a_full_disk_is_not_asked_again(client: Client, stub: StubService, folder: Path, pauses: list[float]) -> None:
    stub.on("POST", f"{SHARE}/missing", lacks("a"))
    stub.on("POST", f"{SHARE}/content", refusal(507, "InsufficientStorage", "no room"))
    with pytest.raises(ServiceError, match="no room"):
        client.storage_files.upload(folder, "acct", "data")
    assert (len(stub.requests("POST", f"{SHARE}/content")), pauses) == (1, [])


def test_what_cannot_be_sent_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UploadError, match="is no file and no folder"):
        client.storage_files.upload(tmp_path / "nowhere", "acct", "data")
    (tmp_path / "bad\udce4").touch()
    with pytest.raises(UploadError, match="is not UTF-8"):
        client.storage_files.upload(tmp_path, "acct", "data")


def test_a_folder_and_a_file_are_fetched(client: Client, stub: StubService, tmp_path: Path) -> None:
    file = {"name": "m", "fileType": "file", "downloadUrl": f"{stub.url}/f/1"}
    file["properties"] = {"contentLength": 10, "lastModified": "2026-01-01T00:00:00Z"}  # type: ignore[assignment]
    listed = {"": [{"name": "d", "fileType": "directory"}], "d": [file], "d/m": [], "d/n": []}
    stub.on("GET", f"{SHARE}/content", lambda asked: answer({"value": listed[asked.query.get("directory", "")]}))
    stub.on("GET", "/f/1", _ranged)
    (whole,) = client.storage_files.download("acct", "data", tmp_path / "all")
    assert whole.path == tmp_path / "all/d/m"
    (single,) = client.storage_files.download("acct", "data", tmp_path, path="d/m")
    assert single.path == tmp_path / "m"
    assert single.path.read_bytes() == whole.path.read_bytes()
    with pytest.raises(DownloadError, match="no file and no folder d/n in acct/data"):
        list(client.storage_files.download("acct", "data", tmp_path, path="d/n"))


def test_the_async_client_sends_too(stub: StubService, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SMALL", 2)
    stub.on("POST", f"{SHARE}/missing", lacks("a", "d/b"))
    stub.on("POST", f"{SHARE}/content", answer({"files": 1}))
    stub.on("PUT", f"{SHARE}/content", answer({}))

    async def use() -> tuple[int, list[tuple[str, int, int]]]:
        told: list[tuple[str, int, int]] = []
        async with AsyncClient(connection=Connection(stub.url, TOKEN)) as client:
            done = await client.storage_files.upload(folder, "acct", "data", progress=lambda *now: told.append(now))
        return len(done.missing), told

    assert asyncio.run(use()) == (2, [("reading", 9, 9), ("sending", 2, 5), ("sending", 5, 5)])
    assert [asked.body for asked in stub.requests("PUT", f"{SHARE}/content")] == [b"bbb"]
