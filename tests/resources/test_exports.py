"""How a file server's data is reached."""

from __future__ import annotations

import pytest

from trainshed.resources.exports import mount_settings, of_the_contract, source_directory


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ""), ("", ""), ("/", ""), (".", ""), ("data", "data"), ("/data/", "data"), ("/mnt/data", ""),
        ("/mnt/data/a/b", "a/b"), ("/mnt/database", "mnt/database"), ("a/../b", "b"), ("/../x", "x"),
    ],
)  # fmt: skip
def test_source_directories(given: str | None, expected: str) -> None:
    assert source_directory(given) == expected


@pytest.mark.parametrize("given", ["..", "../x", "a/../../x"])
def test_one_that_leads_out_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="leads out of the file server's data"):
        source_directory(given)


def test_the_contract_has_no_ports() -> None:
    settings = mount_settings("127.230.0.1", nfs_port=2049, mount_port=20048, ssh_port=22)
    assert settings["nfsPort"] == 2049
    assert of_the_contract(settings) == {
        "mountPoint": "/mnt/data",
        "fileServerPublicIP": "127.230.0.1",
        "fileServerInternalIP": "127.230.0.1",
    }
    assert set(mount_settings("127.230.0.1")) == set(of_the_contract(settings))
