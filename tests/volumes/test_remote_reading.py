"""Reading remotes by rclone, without a mount: listings, ranges, files that grow, and what is not there."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.volumes.servers import BLOB_ACCOUNT, BLOB_KEY, SMB_PASSWORD, SMB_USER, BlobServer, FileServer
from trainshed.resources.volume_sources import VolumeKind, VolumeSource
from trainshed.volumes import rclone
from trainshed.volumes.reading import Entry, Unreadable
from trainshed.volumes.remotes import link_maker, open_remote

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not rclone.find(), reason=f"there is no rclone that is new enough: {rclone.HOW_TO_INSTALL}"),
]
CONTENT = bytes(range(256)) * 20_000
POINTER = "/mountVolumes/x/0/credentials"
KEYS = {f"{POINTER}/accountKey": BLOB_KEY}


def blobs(server: BlobServer, container: str = "data") -> VolumeSource:
    settings = {"accountName": BLOB_ACCOUNT, "containerName": container, "endpoint": server.endpoint}
    return VolumeSource(
        VolumeKind.AZURE_BLOB_FILE_SYSTEMS, "bfs", f"Azure Blob container {container}", settings, POINTER
    )


def share(server: FileServer) -> VolumeSource:
    settings = {
        "accountName": SMB_USER,
        "azureFileUrl": f"https://{SMB_USER}.file.core.windows.net/data",
        "endpoint": server.address,
    }
    return VolumeSource(VolumeKind.AZURE_FILE_SHARES, "afs", "Azure Files share data", settings, POINTER)


def upload(server: BlobServer, name: str, content: bytes) -> None:
    """As another client of the account would."""
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import ContainerClient

    credential = {"account_name": BLOB_ACCOUNT, "account_key": BLOB_KEY}
    container = ContainerClient.from_container_url(f"{server.endpoint}/data", credential=credential)
    with suppress(ResourceExistsError):
        container.create_container()
    container.upload_blob(name, content, overwrite=True)


def test_blobs_are_listed_and_read_by_ranges(blob_server: BlobServer) -> None:
    upload(blob_server, "reading/deep/model [1].bin", CONTENT)
    upload(blob_server, "reading/a.txt", b"a")
    top = open_remote(blobs(blob_server), "reading", KEYS)
    assert [(entry.name, entry.is_directory, entry.size) for entry in top.list("", None, 10)] == [
        ("a.txt", False, 1),
        ("deep", True, 0),
    ]
    assert [entry.name for entry in top.list("", "a.txt", 1)] == ["deep"]
    assert top.list("", None, 10)[0].modified_at == pytest.approx(time.time() * 1000, abs=120_000)
    file = top.open("deep/model [1].bin")
    assert file is not None and file.facts().size == len(CONTENT)
    assert file.read(1000, 10) == CONTENT[1000:1010]
    assert file.read(1010, 5) == CONTENT[1010:1015]
    assert file.read(7, 3) == CONTENT[7:10]
    assert file.read(len(CONTENT) - 2, 100) == CONTENT[-2:]
    assert file.read(len(CONTENT), 1) == b""
    file.close()
    file.close()


def test_what_is_not_there_is_empty(blob_server: BlobServer) -> None:
    reader = open_remote(blobs(blob_server), "nowhere", KEYS)
    assert reader.list("", None, 10) == []
    assert reader.open("no.txt") is None


def test_a_file_that_is_written_again_is_read_on(blob_server: BlobServer) -> None:
    upload(blob_server, "growing/log.txt", b"one\n")
    file = open_remote(blobs(blob_server), "growing", KEYS).open("log.txt")
    assert file is not None and file.read(0, 100) == b"one\n"
    upload(blob_server, "growing/log.txt", b"one\ntwo\n")
    until = time.monotonic() + 20
    while not (piece := file.read(4, 100)):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert piece == b"two\n"
    file.close()


def test_a_wrong_key_is_told_without_the_key(blob_server: BlobServer) -> None:
    wrong = "d3Jvbmc" + "x" * 80 + "=="
    with pytest.raises(Unreadable) as refused:
        open_remote(blobs(blob_server), "", {f"{POINTER}/accountKey": wrong}).list("", None, 10)
    assert "Azure Blob container data cannot be read" in str(refused.value) and wrong not in str(refused.value)


def test_a_signed_link_needs_neither_key_nor_service(blob_server: BlobServer) -> None:
    upload(blob_server, "links/a b#1.txt", b"0123456789")
    make = link_maker(blobs(blob_server), "links", KEYS)
    assert make is not None
    url = make("a b#1.txt", int(time.time() * 1000) + 600_000)
    assert httpx.get(url, headers={"Range": "bytes=2-4"}).content == b"234"
    assert BLOB_KEY not in url
    assert httpx.get(make("a b#1.txt", int(time.time() * 1000) - 600_000)).status_code == 403
    assert httpx.get(re.sub("sig=[^&]*", "sig=AAAA", url)).status_code == 403


def test_links_to_azure_files_are_signed_for_the_file_alone() -> None:
    settings = {"accountName": "acct", "azureFileUrl": "https://acct.file.core.windows.net/share/sub"}
    source = VolumeSource(VolumeKind.AZURE_FILE_SHARES, "afs", "share", settings, POINTER)
    make = link_maker(source, "logs", KEYS)
    assert make is not None
    url = httpx.URL(make("out 1.txt", 1_800_000_000_000))
    assert url.path == "/share/sub/logs/out 1.txt"
    assert (url.params["sr"], url.params["sp"], url.params["se"]) == ("f", "r", "2027-01-15T08:00:00Z")


def test_no_links_by_a_signature_that_was_given(blob_server: BlobServer) -> None:
    assert link_maker(blobs(blob_server), "", {f"{POINTER}/accountKey": "sv=1&sig=x"}) is None


def test_shares_are_listed_and_read(file_server: FileServer) -> None:
    (file_server.folder / "out").mkdir(exist_ok=True)
    (file_server.folder / "out" / "model.bin").write_bytes(CONTENT)
    reader = open_remote(share(file_server), "out", {f"{POINTER}/accountKey": SMB_PASSWORD})
    (entry,) = reader.list("", None, 10)
    assert entry == Entry("model.bin", False, len(CONTENT), entry.modified_at)
    file = reader.open("model.bin")
    assert file is not None and file.read(5, 1 << 20) == CONTENT[5 : 5 + (1 << 20)]
    file.close()


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    gone = BlobServer("http://127.0.0.1:9/devstoreaccount1", 9, None)  # type: ignore[arg-type]
    with pytest.raises(Unreadable, match="cannot be read"):
        open_remote(blobs(gone), "", KEYS).list("", None, 10)
