"""Files of shares: only what is missing travels, nothing half-written is seen, nothing leads out of the share."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from tests.api.service import ACCOUNTS, GROUP, NEW, Service
from trainshed.api import batches, share_files
from trainshed.volumes import content_hashes

pytestmark = pytest.mark.slow

ACCOUNT = f"{ACCOUNTS}/mydata"
SHARE = f"{ACCOUNT}/services/files/volumes/data"


@pytest.fixture
def stored(service: Service) -> Service:
    """The API with account ``mydata``."""
    assert service.send("PUT", GROUP, {"location": "local"}).status_code == 201
    body = {"location": "local", "sku": {"name": "Standard_LRS"}}
    assert service.send("PUT", ACCOUNT, body, version="2018-11-01").status_code == 200
    return service


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(path: str, content: bytes, **more: Any) -> dict[str, Any]:
    return {"path": path, "sha256": digest(content), "size": len(content), **more}


def put(service: Service, path: str, content: bytes, *, sha256: str = "", **query: str) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream"}
    named = {"path_": path, "sha256": sha256 or digest(content), **query}
    return service.send("PUT", f"{SHARE}/content", content, version=NEW, headers=headers, **named)


def put_batch(service: Service, files: dict[str, bytes], *, at: str = SHARE, **more: Any) -> httpx.Response:
    line = json.dumps({"files": [entry(path, content, **more) for path, content in files.items()]})
    body = line.encode() + b"\n" + b"".join(files.values())
    return service.send("POST", f"{at}/content", body, version=NEW, headers={"Content-Type": "application/x"})


def missing(service: Service, *files: dict[str, Any]) -> list[str]:
    found = service.send("POST", f"{SHARE}/missing", {"files": list(files)}, version=NEW)
    assert found.status_code == 200, found.text
    listed: list[str] = found.json()["missing"]
    return listed


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def share(service: Service) -> Path:
    return service.home / "storage/mydata/files/data"


def tree(service: Service) -> dict[str, bytes]:
    """Every file below the accounts' directories, drafts included."""
    root = service.home / "storage"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".hashes" not in path.name
    }


def test_only_what_is_missing_or_different_is_asked_for(stored: Service) -> None:
    wanted = [entry("a.txt", b"a"), entry("d/b.txt", b"b"), entry("d/größe.txt", b"c")]
    assert missing(stored, *wanted) == ["a.txt", "d/b.txt", "d/größe.txt"]
    assert tree(stored) == {}
    assert put_batch(stored, {"a.txt": b"a", "d/b.txt": b"other"}).json() == {"files": 2}
    assert missing(stored, *wanted) == ["d/b.txt", "d/größe.txt"]
    assert put(stored, "d/b.txt", b"b").json() == {"path": "d/b.txt", "sha256": digest(b"b"), "size": 1}
    assert missing(stored, *wanted, entry("a", b"a")) == ["d/größe.txt", "a"]
    assert tree(stored) == {"mydata/files/data/a.txt": b"a", "mydata/files/data/d/b.txt": b"b"}


def test_containers_are_places_of_their_own(stored: Service) -> None:
    put_batch(stored, {"a": b"1"}, at=SHARE.replace("files", "blobs"))
    assert tree(stored) == {"mydata/blobs/data/a": b"1"}


def test_permissions_are_a_file_s_and_the_right_to_run_is_part_of_it(stored: Service) -> None:
    before = os.umask(0o077)
    try:
        put_batch(stored, {"d/run.sh": b"#!"}, executable=True)
        put(stored, "plain", b"x")
    finally:
        os.umask(before)
    modes = [(share(stored) / name).stat().st_mode & 0o777 for name in ("d", "d/run.sh", "plain")]
    assert modes == [0o755, 0o755, 0o644]
    assert missing(stored, entry("d/run.sh", b"#!"), entry("plain", b"x", executable=True)) == ["d/run.sh", "plain"]
    put(stored, "plain", b"x", executable="true")
    assert missing(stored, entry("d/run.sh", b"#!", executable=True), entry("plain", b"x", executable=True)) == []


def test_a_large_file_that_was_sent_is_not_read_again(stored: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(3 << 20)
    assert put(stored, "large", content).status_code == 200
    monkeypatch.setattr(content_hashes.hashlib, "file_digest", _must_not_read)
    assert missing(stored, entry("large", content)) == []


def _must_not_read(*_: object) -> None:
    raise AssertionError("the file was read")


def test_what_a_job_has_changed_is_seen_also_with_the_old_size_and_time(stored: Service) -> None:
    put(stored, "a", b"old")
    facts = (share(stored) / "a").stat()
    with (share(stored) / "a").open("r+b") as file:
        file.write(b"new")
    os.utime(share(stored) / "a", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert missing(stored, entry("a", b"old")) == ["a"]
    assert missing(stored, entry("a", b"new")) == []


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../other/x", "a/../../x", "a//b", "./a", "a/", "a\nb", "a\0b", "x" * 256, "d/" * 120 + "x"],
)
def test_paths_that_lead_elsewhere_or_are_odd_are_refused(stored: Service, path: str) -> None:
    assert error(put(stored, path, b"x")) == (400, "InvalidPropertyValue")
    assert error(put_batch(stored, {"good": b"x", path: b"x"})) == (400, "InvalidPropertyValue")
    asked = {"files": [entry(path, b"x")]}
    assert error(stored.send("POST", f"{SHARE}/missing", asked, version=NEW)) == (400, "InvalidPropertyValue")
    removed = stored.send("POST", f"{SHARE}/remove", {"paths": [path]}, version=NEW)
    assert error(removed) == (400, "InvalidPropertyValue")
    assert tree(stored) == {}


def test_links_are_never_followed(stored: Service, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    put(stored, "a", b"a")
    (share(stored) / "folder").symlink_to(outside)
    (share(stored) / "link").symlink_to(outside / "secret")
    for path in ("folder/new", "link", "folder/secret"):
        answer = put(stored, path, b"x")
        assert error(answer) == (409, "PathInTheWay")
        assert "a symbolic link" in answer.json()["error"]["message"]
        assert error(put_batch(stored, {"first": b"x", path: b"x"})) == (409, "PathInTheWay")
    assert missing(stored, entry("link", b"secret"), entry("folder/secret", b"secret")) == ["link", "folder/secret"]
    removed = stored.send("POST", f"{SHARE}/remove", {"paths": ["folder/secret"]}, version=NEW)
    assert error(removed) == (409, "PathInTheWay")
    listed = stored.send("GET", f"{SHARE}/content", version=NEW, directory="folder")
    assert error(listed) == (409, "PathInTheWay")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not (share(stored) / "first").exists()


def test_folders_and_files_do_not_take_each_other_s_place(stored: Service) -> None:
    put(stored, "d/a", b"a")
    assert error(put(stored, "d", b"x")) == (409, "PathInTheWay")
    assert error(put(stored, "d/a/b", b"x")) == (409, "PathInTheWay")
    assert error(put_batch(stored, {"e": b"x", "e/f": b"x"})) == (400, "InvalidPropertyValue")
    assert tree(stored) == {"mydata/files/data/d/a": b"a"}


def test_content_of_another_hash_changes_nothing(stored: Service) -> None:
    put(stored, "a", b"old")
    assert error(put(stored, "a", b"new", sha256=digest(b"other"))) == (400, "InvalidPropertyValue")
    line = json.dumps({"files": [entry("a", b"new"), entry("b", b"old")]}).encode()
    wrong = stored.send("POST", f"{SHARE}/content", line + b"\nnewbad", version=NEW, headers={"Content-Type": "a/b"})
    assert wrong.json()["error"]["target"] == "files[1].sha256"
    short = stored.send("POST", f"{SHARE}/content", line + b"\nnew", version=NEW, headers={"Content-Type": "a/b"})
    assert error(short) == (400, "InvalidRequestContent")
    assert tree(stored) == {"mydata/files/data/a": b"old"}


def test_a_broken_upload_leaves_what_was_there(stored: Service) -> None:
    put(stored, "a", b"old")
    pieces: list[Message] = [{"type": "http.request", "body": b"ne", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return pieces.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "PUT",
        "path": f"{SHARE}/content",
        "raw_path": b"",
        "query_string": f"path=a&sha256={digest(b'new')}".encode(),
        "headers": [(b"authorization", b"Bearer " + stored.tokens.admin.encode())],
        "scheme": "http",
        "server": ("shed.test", 80),
        "http_version": "1.1",
    }
    stored.run(stored.app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 400
    assert tree(stored) == {"mydata/files/data/a": b"old"}


def test_what_a_crash_left_goes_after_a_day(stored: Service) -> None:
    put(stored, "a", b"1")
    drafts = stored.home / "storage/mydata/.incoming"
    for name, age in (("old", 90_000), ("young", 80_000)):
        (drafts / name).write_bytes(b"half")
        then = time.time() - age
        os.utime(drafts / name, (then, then))
    put(stored, "b", b"2")
    assert [path.name for path in drafts.iterdir()] == ["young"]


def test_a_full_disk_is_told_before_anything_is_taken(stored: Service) -> None:
    object.__setattr__(stored.services, "disk_reserve", 1 << 62)
    for answer in (put(stored, "a", b"x" * 100), put_batch(stored, {"a": b"x"})):
        assert error(answer) == (507, "InsufficientStorage")
    assert tree(stored) == {}


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(stored: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    put(stored, "a", b"old")
    # /dev/full takes nothing: what the kernel says of a full disk is what is heard.
    full = os.open("/dev/full", os.O_WRONLY)
    real = share_files.Draft.__init__

    def on_a_full_disk(self: Any, *given: Any) -> None:
        real(self, *given)
        os.dup2(full, self.descriptor)

    monkeypatch.setattr(share_files.Draft, "__init__", on_a_full_disk)
    for answer in (put(stored, "a", b"new"), put_batch(stored, {"a": b"new"})):
        assert error(answer) == (507, "InsufficientStorage")
    os.close(full)
    assert tree(stored) == {"mydata/files/data/a": b"old"}


def test_limits_are_told(stored: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share_files, "LARGEST_FILE", 10)
    assert error(put(stored, "a", b"x" * 11)) == (413, "RequestEntityTooLarge")
    monkeypatch.setattr(batches, "LIMIT", 10)
    assert error(put_batch(stored, {"a": b""})) == (413, "RequestEntityTooLarge")
    monkeypatch.setattr(share_files, "MOST_FILES", 1)
    asked = {"files": [entry("a", b""), entry("b", b"")]}
    assert error(stored.send("POST", f"{SHARE}/missing", asked, version=NEW)) == (400, "InvalidPropertyValue")
    assert tree(stored) == {}


def test_removing_takes_empty_folders_along(stored: Service) -> None:
    put_batch(stored, {"a/b/c": b"1", "a/d": b"2", "e": b"3"})
    removed = stored.send("POST", f"{SHARE}/remove", {"paths": ["a/b/c", "e", "gone", "x/y"]}, version=NEW)
    assert removed.json() == {"removed": 2}
    assert sorted(path.name for path in share(stored).rglob("*")) == ["a", "d"]
    assert error(stored.send("POST", f"{SHARE}/remove", {"paths": ["a"]}, version=NEW)) == (409, "PathInTheWay")


def test_lists_have_links_that_need_no_token(stored: Service) -> None:
    assert error(stored.send("GET", f"{SHARE}/content", version=NEW)) == (404, "ShareNotFound")
    put_batch(stored, {"d/ä b": b"content", "a": b"1"})
    top = stored.send("GET", f"{SHARE}/content", version=NEW).json()["value"]
    assert [(found["name"], found["fileType"]) for found in top] == [("a", "file"), ("d", "directory")]
    (found,) = stored.send("GET", f"{SHARE}/content", version=NEW, directory="d").json()["value"]
    assert (found["name"], found["properties"]["contentLength"]) == ("ä b", 7)
    url = found["downloadUrl"]
    assert stored.send("GET", url, version=None, token=None, headers={"Range": "bytes=3-"}).content == b"tent"
    assert stored.send("GET", url.replace("/data/", "/date/"), version=None, token=None).status_code == 403
    first = stored.send("GET", f"{SHARE}/content", version=NEW, maxresults=1).json()
    assert [entry["name"] for entry in first["value"]] == ["a"]
    rest = stored.send("GET", first["nextLink"], version=None).json()
    assert [entry["name"] for entry in rest["value"]] == ["d"]
    stored.send("DELETE", ACCOUNT)
    assert stored.send("GET", url, version=None, token=None).status_code == 404


def test_a_link_in_a_share_does_not_lead_to_another_share(stored: Service) -> None:
    put_batch(stored, {"a": b"mine"})
    put_batch(stored, {"b": b"other"}, at=SHARE.replace("/data", "/second"))
    url = stored.send("GET", f"{SHARE}/content", version=NEW).json()["value"][0]["downloadUrl"]
    (share(stored) / "a").unlink()
    (share(stored) / "a").symlink_to("../second/b")
    assert stored.send("GET", url, version=None, token=None).status_code == 404


def test_an_account_elsewhere_is_told_apart(stored: Service) -> None:
    answer = put_batch(stored, {"a": b"1"}, at=SHARE.replace("mydata", "contoso"))
    assert error(answer) == (404, "ResourceNotFound")
    assert "azcopy" in answer.json()["error"]["message"]
    for wrong in ("services/queues/volumes/data", "services/files/volumes/No"):
        assert error(stored.send("GET", f"{ACCOUNT}/{wrong}/content", version=NEW)) == (400, "InvalidPropertyValue")
    assert sorted(path.name for path in (stored.home / "storage").iterdir()) == ["mydata"]


def test_sending_is_noted_and_asking_is_not(stored: Service) -> None:
    missing(stored, entry("a", b"1"))
    put_batch(stored, {"a": b"1", "b": b"2"})
    noted = stored.send("GET", "/providers/Trainshed.Audit/entries", version=NEW).json()["value"]
    actions = [found["action"] for found in noted if "/files/" in found["action"]]
    assert actions == ["Microsoft.Storage/storageAccounts/files/write"]
