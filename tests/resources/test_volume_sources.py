"""From mountVolumes to volumes one by one."""

from __future__ import annotations

import pytest

from trainshed.resources.volume_sources import VolumeKind, VolumeSource, path_in_share, share_of, volume_sources

VOLUMES = {
    "unmanagedFileSystems": [{"mountCommand": "mount -o password=hunter2 //h/s", "relativeMountPath": "lab"}],
    "azureFileShares": [
        {
            "accountName": "acct",
            "azureFileUrl": "https://acct.file.core.windows.net/data",
            "credentials": {},
            "relativeMountPath": "afs",
        }
    ],
    "azureBlobFileSystems": [
        {"accountName": "acct", "containerName": "models", "credentials": {}, "relativeMountPath": "bfs"}
    ],
    "fileServers": [{"fileServer": {"id": "/subscriptions/s/.../fileServers/nfs"}, "relativeMountPath": "nfs"}],
}


def test_the_order_is_the_contracts_and_titles_tell_no_secret() -> None:
    found = volume_sources(VOLUMES, "/mountVolumes")
    assert [(source.kind, source.relative_path, source.title) for source in found] == [
        ("azureFileShares", "afs", "Azure Files share acct/data"),
        ("azureBlobFileSystems", "bfs", "Azure Blob container acct/models"),
        ("fileServers", "nfs", "file server nfs"),
        ("unmanagedFileSystems", "lab", "unmanaged file system by mount"),
    ]


def test_credentials_are_found_by_pointer() -> None:
    share = volume_sources(VOLUMES, "/nodeSetup/mountVolumes")[0]
    opened = {"/nodeSetup/mountVolumes/azureFileShares/0/credentials/accountKey": "k", "/secrets/0": "no"}
    assert (share.secret("accountKey", opened), share.secret("sas", opened)) == ("k", None)


def test_a_source_travels() -> None:
    for source in volume_sources(VOLUMES, "/mountVolumes"):
        assert VolumeSource.from_json(source.to_json()) == source
        assert VolumeKind(source.kind)


@pytest.mark.parametrize("volumes", [None, {}, {"azureFileShares": None}])
def test_nothing_is_mounted_where_nothing_is_named(volumes: dict[str, None] | None) -> None:
    assert volume_sources(volumes, "/mountVolumes") == []


@pytest.mark.parametrize("url", ["https://a.file.core.windows.net/data", "https://a.file.x/data/", "//a/data/sub?x=1"])
def test_the_share_of_a_url(url: str) -> None:
    assert share_of(url) == "data"


def test_directories_of_a_share() -> None:
    assert path_in_share("https://a.file.core.windows.net/share") == ()
    assert path_in_share("https://a.file.core.windows.net/share/a%20b//c/") == ("a b", "c")
