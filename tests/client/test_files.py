"""Downloading: recursion, ranges, going on after a break, and names that would lead astray."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.stub_service import EXPERIMENT, Answer, Asked, StubService, answer
from trainshed.client import Client
from trainshed.client.errors import DownloadError

LISTING = f"{EXPERIMENT}/jobs/j/listOutputFiles"
CONTENT = bytes(range(256)) * 40


def _entry(stub: StubService, name: str, path: str, size: int = len(CONTENT)) -> dict[str, object]:
    return {
        "name": name,
        "fileType": "file",
        "downloadUrl": f"{stub.url}{path}?sig=x",
        "properties": {"lastModified": "2026-11-01T10:00:00Z", "contentLength": size},
    }


def _ranged(asked: Asked) -> Answer:
    first, last = asked.headers["range"].removeprefix("bytes=").split("-")
    part = CONTENT[int(first) : int(last) + 1]
    return Answer(206, part, {"Content-Range": f"bytes {first}-{last}/{len(CONTENT)}"})


def _listings(*trees: tuple[str, list[dict[str, object]]]) -> object:
    held = dict(trees)
    return lambda asked: answer({"value": held[asked.query["directory"]]})


def test_a_tree_is_downloaded(client: Client, stub: StubService, tmp_path: Path) -> None:
    top = [_entry(stub, "model.bin", "/f/1"), {"name": "sub", "fileType": "directory"}]
    stub.on("POST", LISTING, _listings((".", top), ("sub", [_entry(stub, "b.bin", "/f/2")])))
    stub.on("GET", "/f/1", _ranged)
    stub.on("GET", "/f/2", _ranged)
    done = list(client.files.download("j", "OUTPUT", tmp_path / "to"))
    assert [file.path.relative_to(tmp_path / "to").as_posix() for file in done] == ["model.bin", "sub/b.bin"]
    assert (tmp_path / "to/sub/b.bin").read_bytes() == CONTENT
    assert (tmp_path / "to/model.bin").stat().st_mtime == 1793527200


def test_signed_links_carry_no_token(client: Client, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "m", "/f/1")]}))
    stub.on("GET", "/f/1", _ranged)
    list(client.files.download("j", "OUTPUT", tmp_path))
    assert "authorization" not in stub.requests("GET", "/f/1")[0].headers


def test_a_broken_download_goes_on_where_it_broke(client: Client, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "m", "/f/1")]}))
    cut = Answer(206, CONTENT[:1000], missing=len(CONTENT) - 1000)
    stub.on("GET", "/f/1", cut, _ranged)
    list(client.files.download("j", "OUTPUT", tmp_path))
    ranges = [asked.headers["range"] for asked in stub.requests("GET", "/f/1")]
    assert ranges == [f"bytes=0-{len(CONTENT) - 1}", f"bytes=1000-{len(CONTENT) - 1}"]
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_what_an_earlier_call_left_is_continued(client: Client, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "m", "/f/1")]}))
    stub.on("GET", "/f/1", Answer(206, CONTENT[:1000], missing=5), Answer(404))
    with pytest.raises(Exception, match="404"):
        list(client.files.download("j", "OUTPUT", tmp_path))
    assert not (tmp_path / "m").exists()
    stub.on("GET", "/f/1", _ranged)
    (done,) = client.files.download("j", "OUTPUT", tmp_path)
    assert done.fetched == len(CONTENT) - 1000
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_is_there_is_not_read_again(client: Client, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "m", "/f/1")]}))
    stub.on("GET", "/f/1", _ranged)
    list(client.files.download("j", "OUTPUT", tmp_path))
    (again,) = client.files.download("j", "OUTPUT", tmp_path)
    assert again.fetched == 0
    assert len(stub.requests("GET", "/f/1")) == 1


def test_storage_without_ranges_is_read_from_the_beginning(client: Client, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "m", "/f/1")]}))
    stub.on("GET", "/f/1", Answer(206, CONTENT[:10], missing=5), Answer(200, CONTENT))
    list(client.files.download("j", "OUTPUT", tmp_path))
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_an_empty_file_needs_no_request(client: Client, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "empty", "/f/1", size=0)]}))
    list(client.files.download("j", "OUTPUT", tmp_path))
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize("name", ["..", "../x", "/etc/passwd", "a/b", ""])
def test_a_name_that_leads_out_is_refused(client: Client, stub: StubService, tmp_path: Path, name: str) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, name, "/f/1")]}))
    with pytest.raises(DownloadError, match="out of the folder"):
        list(client.files.download("j", "OUTPUT", tmp_path / "in"))


def test_a_growing_file_is_taken_as_it_was_listed(client: Client, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "m", "/f/1", size=100)]}))
    stub.on("GET", "/f/1", Answer(200, CONTENT))
    list(client.files.download("j", "OUTPUT", tmp_path))
    assert (tmp_path / "m").read_bytes() == CONTENT[:100]


def test_progress_is_told_in_bytes_of_each_file(client: Client, stub: StubService, tmp_path: Path) -> None:
    stub.on("POST", LISTING, answer({"value": [_entry(stub, "m", "/f/1")]}))
    stub.on("GET", "/f/1", Answer(206, CONTENT[:1000], missing=5), _ranged)
    told: list[tuple[str, int, int]] = []
    progress = lambda path, had, size: told.append((path.name, had, size))  # noqa: E731
    list(client.files.download("j", "OUTPUT", tmp_path, progress=progress))
    assert told[-1] == ("m", len(CONTENT), len(CONTENT))
    assert [had for _, had, _ in told] == sorted(had for _, had, _ in told)
