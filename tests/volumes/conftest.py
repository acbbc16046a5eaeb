"""Servers that this folder's tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.volumes import servers
from tests.volumes.servers import BlobServer, FileServer
from trainshed.runner import isolation
from trainshed.volumes import rclone


@pytest.fixture(scope="session")
def mounts() -> None:
    """What mounting as the service does needs."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount in a namespace of its own")
    if why_not := isolation.permitted("node-0"):
        pytest.skip(f"no mount namespaces here: {why_not}")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or not shutil.which("fusermount3"):
        pytest.skip("there is no FUSE here (/dev/fuse and fusermount3, apt-get install fuse3)")
    if not rclone.find():
        pytest.skip(f"there is no rclone that is new enough: {rclone.HOW_TO_INSTALL}")


@pytest.fixture(scope="session")
def blob_server(mounts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlobServer]:
    """An Azurite."""
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def file_server(mounts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    """A Samba."""
    with servers.samba(tmp_path_factory.mktemp("samba")) as server:
        yield server
