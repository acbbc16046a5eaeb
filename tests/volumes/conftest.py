"""Servers that this folder's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.volumes import servers
from tests.volumes.servers import BlobServer, FileServer


@pytest.fixture(scope="session")
def blob_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlobServer]:
    """An Azurite."""
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def file_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    """A Samba."""
    with servers.samba(tmp_path_factory.mktemp("samba")) as server:
        yield server
