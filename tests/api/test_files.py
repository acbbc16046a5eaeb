"""Output files: listing them, links, byte ranges, and staying below the mount root (rest-contract section 9)."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from tests.api.service import BASE, CLUSTER, JOB, WS, Service, job_body
from trainshed.store import jobs

pytestmark = pytest.mark.slow

LIST = f"{JOB}/listOutputFiles"
CONTENT = b"0123456789"


@pytest.fixture
def log(shed: Service) -> Path:
    """stdout.txt of job ``j``, with ten bytes."""
    path = shed.stdouterr(shed.make_job()) / "stdout.txt"
    path.write_bytes(CONTENT)
    os.utime(path, (1_528_319_100, 1_528_319_100))
    return path


def links(service: Service, **query: object) -> dict[str, str]:
    """Download links by file name."""
    answer = service.send("POST", LIST, **{"outputdirectoryid": "stdouterr", **query})
    assert answer.status_code == 200, answer.text
    return {entry["name"]: entry["downloadUrl"] for entry in answer.json()["value"] if "downloadUrl" in entry}


def fetch(service: Service, url: str, byte_range: str | None = None, method: str = "GET") -> httpx.Response:
    """Follow a link, without a token."""
    headers = {} if byte_range is None else {"Range": byte_range}
    return service.send(method, url, token=None, headers=headers)


def test_listing_as_the_contract_shows_it(shed: Service, log: Path) -> None:
    (log.parent / "afs").mkdir()
    value = shed.send("POST", LIST, outputdirectoryid="stdouterr").json()["value"]
    assert value[0] == {"name": "afs", "fileType": "directory"}
    link = value[1].pop("downloadUrl")
    properties = {"lastModified": "2018-06-06T21:05:00Z", "contentLength": 10}
    assert value[1] == {"name": "stdout.txt", "fileType": "file", "properties": properties}
    job = shed.apply(lambda tx: jobs.get(tx, "sub/group/ws/exp/j"))
    assert link.startswith(f"{BASE}/files/{job.uid}/stdouterr/stdout.txt?se=2018-06-06T22%3A06%3A02Z&sp=rl&sig=")


def test_listing_is_empty_until_there_is_something(shed: Service) -> None:
    shed.make_job()
    assert shed.send("POST", LIST, outputdirectoryid="stdouterr").json() == {"value": []}


def test_listing_goes_into_folders(shed: Service, log: Path) -> None:
    (log.parent / "a" / "b").mkdir(parents=True)
    (log.parent / "a" / "b" / "x y#.txt").write_bytes(b"deep")
    url = links(shed, directory="./a//b")["x y#.txt"]
    assert fetch(shed, url).content == b"deep"


@pytest.mark.parametrize("verb", ["POST", "GET"])
def test_listing_comes_in_pages_by_the_same_verb_or_get(shed: Service, log: Path, verb: str) -> None:
    """azure-mgmt-batchai 2.0.0 follows nextLink with POST, 7.0.0 with GET."""
    for number in range(4):
        (log.parent / f"f{number}").write_bytes(b"")
    names, url = [], f"{LIST}?outputdirectoryid=stdouterr&maxresults=2&api-version=2018-05-01"
    while url:
        body = shed.send(verb if names else "POST", url, version=None).json()
        names += [entry["name"] for entry in body["value"]]
        url = body.get("nextLink", "")
    assert names == ["f0", "f1", "f2", "f3", "stdout.txt"]


@pytest.mark.parametrize("path", [LIST, f"{JOB}/listRemoteLoginInformation", f"{CLUSTER}/listRemoteLoginInformation"])
def test_a_list_of_post_does_not_begin_with_get(shed: Service, log: Path, path: str) -> None:
    answer = shed.send("GET", path, outputdirectoryid="stdouterr")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "MethodNotAllowed")
    assert answer.headers["Allow"] == "POST"


def test_output_directories_have_a_place_of_their_own(shed: Service) -> None:
    outputs = [
        {"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/$WHERE", "pathSuffix": "models"},
        {"id": "PLAIN", "pathPrefix": "${AZ_BATCHAI_MOUNT_ROOT}"},
    ]
    body = job_body(outputDirectories=outputs, environmentVariables=[{"name": "WHERE", "value": "there"}])
    job = shed.make_job(body=body)
    root = shed.home / "mounts"
    for folder, name in ((f"there/{job.segment}/outputs/models", "m.pt"), (f"{job.segment}/outputs", "p.txt")):
        (root / folder).mkdir(parents=True)
        (root / folder / name).write_text(name)
    assert fetch(shed, links(shed, outputdirectoryid="MODEL")["m.pt"]).text == "m.pt"
    assert fetch(shed, links(shed, outputdirectoryid="PLAIN")["p.txt"]).text == "p.txt"


@pytest.mark.parametrize("prefix", ["$AZ_BATCHAI_JOB_TEMP_DIR", "/etc", "$UNKNOWN/logs", "$AZ_BATCHAI_MOUNT_ROOT/../x"])
def test_directories_outside_the_mount_root_are_refused(shed: Service, prefix: str) -> None:
    shed.make_job(body=job_body(stdOutErrPathPrefix=prefix))
    error = shed.send("POST", LIST, outputdirectoryid="stdouterr").json()["error"]
    assert error["message"].startswith("The specified outputDirectoryId stdouterr is not present on a mount root")


def test_unknown_output_directory_names_the_known_ones(shed: Service) -> None:
    shed.make_job(body=job_body(outputDirectories=[{"id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT"}]))
    answer = shed.send("POST", LIST, outputdirectoryid="MODLE")
    assert answer.status_code == 400
    assert "stdouterr, MODEL" in answer.json()["error"]["message"]


RANGES = {
    "none": (None, 200, CONTENT, None),
    "from the start": ("bytes=0-", 206, CONTENT, "bytes 0-9/10"),
    "the rest": ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
    "last byte": ("bytes=9-", 206, b"9", "bytes 9-9/10"),
    "at the end": ("bytes=10-", 416, None, "bytes */10"),
    "beyond the end": ("bytes=11-20", 416, None, "bytes */10"),
    "part": ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
    "one byte": ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
    "longer than it is": ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
    "suffix": ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    "long suffix": ("bytes=-99", 206, CONTENT, "bytes 0-9/10"),
    "empty suffix": ("bytes=-0", 416, None, "bytes */10"),
    "spaces and case": ("Bytes = 4 - 5", 206, b"45", "bytes 4-5/10"),
    "several": ("bytes=0-1,3-4", 200, CONTENT, None),
    "backwards": ("bytes=5-2", 200, CONTENT, None),
    "another unit": ("lines=1-2", 200, CONTENT, None),
    "nothing": ("bytes=-", 200, CONTENT, None),
    "absurdly long": (f"bytes={'9' * 400}-", 200, CONTENT, None),
}


@pytest.mark.parametrize(("asked", "status", "content", "told"), RANGES.values(), ids=RANGES.keys())
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ranges(
    shed: Service, log: Path, method: str, asked: str | None, status: int, content: bytes | None, told: str | None
) -> None:
    answer = fetch(shed, links(shed)["stdout.txt"], asked, method)
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == told
    assert answer.headers["Accept-Ranges"] == "bytes"
    if content is not None:
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.content == (content if method == "GET" else b"")


def test_an_empty_file_has_no_range(shed: Service, log: Path) -> None:
    log.write_bytes(b"")
    url = links(shed)["stdout.txt"]
    assert fetch(shed, url).status_code == 200
    assert fetch(shed, url, "bytes=0-").status_code == 416


def test_a_growing_file_is_followed_by_ranges(shed: Service, log: Path) -> None:
    url = links(shed)["stdout.txt"]
    read = fetch(shed, url, "bytes=0-").content
    assert fetch(shed, url, f"bytes={len(read)}-").status_code == 416
    with log.open("ab") as file:
        file.write(b"more")
    assert fetch(shed, url, f"bytes={len(read)}-").content == b"more"


def test_if_range_of_another_content_sends_the_whole(shed: Service, log: Path) -> None:
    url = links(shed)["stdout.txt"]
    etag = fetch(shed, url).headers["ETag"]
    same = shed.send("GET", url, token=None, headers={"Range": "bytes=4-", "If-Range": etag})
    assert same.status_code == 206
    log.write_bytes(b"something else")
    changed = shed.send("GET", url, token=None, headers={"Range": "bytes=4-", "If-Range": etag})
    assert (changed.status_code, changed.content) == (200, b"something else")


def test_downloads_are_not_rendered_by_browsers(shed: Service, log: Path) -> None:
    headers = fetch(shed, links(shed)["stdout.txt"]).headers
    assert (headers["Content-Type"], headers["Content-Disposition"]) == ("application/octet-stream", "attachment")


def test_large_files_arrive_whole(shed: Service, log: Path) -> None:
    content = os.urandom((3 << 20) + 7)
    log.write_bytes(content)
    assert fetch(shed, links(shed)["stdout.txt"]).content == content


def test_a_link_expires(shed: Service, log: Path) -> None:
    url = links(shed, linkexpiryinminutes=5)["stdout.txt"]
    shed.clock.now += 5 * 60_000 - 1
    assert fetch(shed, url).status_code == 200
    shed.clock.now += 1
    answer = fetch(shed, url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthenticationFailed")
    assert "expired" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("stdout.txt", "stderr.txt"), ("se=2018", "se=2019"), ("sig=", "sig=A"), ("sp=rl", "sp=rw"),
     ("stdout.txt", "%2e%2e/%2e%2e/x"), ("sig=", "no=")],
)  # fmt: skip
def test_a_changed_link_is_refused(shed: Service, log: Path, old: str, new: str) -> None:
    (log.parent / "stderr.txt").write_bytes(b"other")
    answer = fetch(shed, links(shed)["stdout.txt"].replace(old, new))
    assert answer.status_code == 403


def test_the_token_does_not_replace_a_signature(shed: Service, log: Path) -> None:
    url = links(shed)["stdout.txt"].partition("?")[0]
    assert shed.send("GET", url).status_code == 403


def test_a_link_outlives_neither_its_file_nor_its_job(shed: Service, log: Path) -> None:
    url = links(shed)["stdout.txt"]
    log.unlink()
    assert fetch(shed, url).json()["error"]["code"] == "FileNotFound"
    shed.send("POST", f"{JOB}/terminate")
    shed.controller.finish(succeeded=False)
    job = shed.apply(lambda tx: jobs.get(tx, "sub/group/ws/exp/j"))
    shed.apply(lambda tx: jobs.request_deletion(tx, job.id, 1))
    shed.apply(lambda tx: jobs.delete(tx, job.id))
    assert fetch(shed, url).json()["error"]["code"] == "JobNotFound"


def test_links_of_the_mount_root_are_followed(shed: Service, log: Path) -> None:
    (log.parent / "latest.txt").symlink_to("stdout.txt")
    assert fetch(shed, links(shed)["latest.txt"]).content == CONTENT


def test_links_out_of_the_mount_root_are_neither_shown_nor_followed(shed: Service, log: Path) -> None:
    secret = shed.home / "vault.key"
    (log.parent / "key").symlink_to(secret)
    (log.parent / "home").symlink_to(shed.home)
    (log.parent / "gone").symlink_to("nowhere")
    (log.parent / "loop").symlink_to("loop")
    assert set(links(shed)) == {"stdout.txt"}
    url = links(shed)["stdout.txt"]
    log.unlink()
    log.symlink_to(secret)
    answer = fetch(shed, url)
    assert answer.status_code == 404
    assert secret.read_bytes().strip() not in answer.content
    into = shed.send("POST", LIST, outputdirectoryid="stdouterr", directory="home")
    assert into.status_code == 400


def test_pipes_are_neither_shown_nor_opened(shed: Service, log: Path) -> None:
    url = links(shed)["stdout.txt"]
    log.unlink()
    os.mkfifo(log)
    assert links(shed) == {}
    assert fetch(shed, url).status_code == 404


def test_names_that_are_no_utf8_can_be_downloaded(shed: Service, log: Path) -> None:
    name = os.fsdecode(b"caf\xe9 %.txt")
    (log.parent / name).write_bytes(b"latin")
    url = links(shed)[name]
    assert fetch(shed, url).content == b"latin"


def test_listing_of_an_absent_workspace_names_it(service: Service) -> None:
    answer = service.send("POST", LIST, outputdirectoryid="stdouterr")
    assert answer.json()["error"]["code"] == "WorkspaceNotFound"
    assert WS.endswith(answer.json()["error"]["message"].split()[3])
