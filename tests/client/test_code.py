"""Which files are code, and sending only those that the service lacks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.client.stub_service import WORKSPACE, Asked, StubService, answer
from trainshed.client import Client, sending
from trainshed.client.code import read_folder, snapshot_id
from trainshed.client.errors import CodeFolderError, UploadError
from trainshed.client.ignore import code_files


def _tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _paths(root: Path, **options: list[Path]) -> list[str]:
    return [file.path for file in code_files(root, **options)]


def test_what_is_never_code_is_left_out(tmp_path: Path) -> None:
    _tree(tmp_path, **{"a.py": "", ".git/config": "", ".venv/x": "", "p/__pycache__/a.pyc": "", "p/b.py": ""})
    assert _paths(tmp_path) == ["a.py", "p/b.py"]


def test_gitignore_is_honoured_with_negation_and_folders(tmp_path: Path) -> None:
    files = {".gitignore": "*.log\n!keep.log\n/data/\n", "x.log": "", "keep.log": "", "data/d": "", "p/data/d": ""}
    assert _paths(_tree(tmp_path, **files)) == [".gitignore", "keep.log", "p/data/d"]


def test_an_ignore_file_in_a_folder_holds_below_it_and_wins(tmp_path: Path) -> None:
    files = {".gitignore": "*.bin\n", "p/.gitignore": "!a.bin\nb.py\n", "p/a.bin": "", "p/b.py": "", "b.py": ""}
    assert _paths(_tree(tmp_path, **files)) == [".gitignore", "b.py", "p/.gitignore", "p/a.bin"]


def test_trainshedignore_replaces_gitignore(tmp_path: Path) -> None:
    files = {".gitignore": "a.py\n", ".trainshedignore": "b.py\n", "a.py": "", "b.py": ""}
    assert _paths(_tree(tmp_path, **files)) == [".gitignore", ".trainshedignore", "a.py"]


def test_the_home_is_left_out_wherever_it_is(tmp_path: Path) -> None:
    _tree(tmp_path, **{"a.py": "", "h/vault.key": "secret"})
    assert _paths(tmp_path, skip=[tmp_path / "h"]) == ["a.py"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    root = _tree(tmp_path / "code", **{"a.py": "x", "d/b.py": ""})
    (root / "l.py").symlink_to(root / "a.py")
    (root / "loop").symlink_to(root)
    (root / "broken").symlink_to(root / "nowhere")
    assert _paths(root) == ["a.py", "d/b.py", "l.py"]


def test_the_manifest_has_hashes_and_modes(tmp_path: Path) -> None:
    _tree(tmp_path, **{"a.py": "x", "run.sh": "y"})
    (tmp_path / "run.sh").chmod(0o700)
    manifest, _ = read_folder(tmp_path, [])
    assert manifest["a.py"] == {"sha256": hashlib.sha256(b"x").hexdigest(), "mode": 0o644}
    assert manifest["run.sh"]["mode"] == 0o755


def test_the_same_code_has_the_same_snapshot_whatever_the_order() -> None:
    assert snapshot_id({"a": 1, "b": 2}) == snapshot_id({"b": 2, "a": 1})
    assert snapshot_id({"a": 1}) != snapshot_id({"a": 2})


def test_only_missing_files_are_sent(client: Client, stub: StubService, tmp_path: Path) -> None:
    _tree(tmp_path, **{"a.py": "have", "b.py": "lack", "copy.py": "lack"})
    lack = hashlib.sha256(b"lack").hexdigest()
    manifest, _ = read_folder(tmp_path, [])
    stub.on("POST", f"{WORKSPACE}/code/missing", answer({"missing": [lack]}))
    stub.on("POST", f"{WORKSPACE}/code/blobs", answer({"files": 1}))
    stub.on("PUT", f"{WORKSPACE}/code/snapshots/{snapshot_id(manifest)}", answer({}))
    snapshot = client.code.upload(tmp_path)
    assert (snapshot.files, snapshot.sent, snapshot.sent_size) == (3, 1, 4)
    (batch,) = stub.requests("POST", f"{WORKSPACE}/code/blobs")
    described, _, contents = batch.body.partition(b"\n")
    assert (json.loads(described), contents) == ({"files": [{"sha256": lack, "size": 4}]}, b"lack")
    (sent,) = stub.requests("PUT", f"{WORKSPACE}/code/snapshots/{snapshot.id}")
    assert sent.json() == manifest


def test_a_large_file_travels_alone_and_is_read_again_for_a_retry(
    client: Client, stub: StubService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SMALL", 0)
    _tree(tmp_path, **{"a.py": "x"})
    digest = hashlib.sha256(b"x").hexdigest()
    manifest, _ = read_folder(tmp_path, [])
    bodies: list[bytes] = []

    def refuse_once(asked: Asked) -> object:
        bodies.append(asked.body)
        return answer({}, 503 if len(bodies) == 1 else 200)

    stub.on("POST", f"{WORKSPACE}/code/missing", answer({"missing": [digest]}))
    stub.on("PUT", f"{WORKSPACE}/code/blobs/{digest}", refuse_once)
    stub.on("PUT", f"{WORKSPACE}/code/snapshots/{snapshot_id(manifest)}", answer({}))
    client.code.upload(tmp_path)
    assert bodies == [b"x", b"x"]


def test_many_files_go_in_requests_of_bounded_size(
    client: Client, stub: StubService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TOGETHER", 10)
    monkeypatch.setattr(sending, "MOST_TOGETHER", 3)
    _tree(tmp_path, **{name: name * 2 for name in "abcdefg"}, h="8 bytes.")
    manifest, _ = read_folder(tmp_path, [])
    hashes = [entry["sha256"] for entry in manifest.values()]
    stub.on("POST", f"{WORKSPACE}/code/missing", answer({"missing": hashes}))
    stub.on("POST", f"{WORKSPACE}/code/blobs", *[answer({})] * 4)
    stub.on("PUT", f"{WORKSPACE}/code/snapshots/{snapshot_id(manifest)}", answer({}))
    told: list[tuple[int, int]] = []
    client.code.upload(tmp_path, progress=lambda done, whole: told.append((done, whole)))
    sent = stub.requests("POST", f"{WORKSPACE}/code/blobs")
    assert [len(json.loads(asked.body.partition(b"\n")[0])["files"]) for asked in sent] == [3, 3, 2]
    assert told == [(3, 8), (6, 8), (8, 8)]


def test_a_file_that_changes_while_it_is_sent_is_named(client: Client, stub: StubService, tmp_path: Path) -> None:
    _tree(tmp_path, **{"a.py": "x"})

    def change(asked: Asked) -> object:
        (tmp_path / "a.py").write_text("y")
        return answer({"missing": json.loads(asked.body)["sha256"]})

    stub.on("POST", f"{WORKSPACE}/code/missing", change)
    with pytest.raises(UploadError, match=r"a\.py was changed while it was sent"):
        client.code.upload(tmp_path)
    assert stub.requests("POST", f"{WORKSPACE}/code/blobs") == []


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodeFolderError, match="is not a folder"):
        read_folder(tmp_path / "nowhere", [])
