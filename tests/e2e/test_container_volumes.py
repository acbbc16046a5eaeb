"""Volumes in containers: a share of the job and a file server of the cluster, as they are on the host."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.test_containers import House, house, store
from tests.e2e.test_file_servers import SERVER
from tests.support.containers import hindrance
from tests.support.live_service import custom
from trainshed.engines.local.fileserver import nfs
from trainshed.volumes.libnfs import available

__all__ = ["house", "store"]

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.skipif(bool(hindrance()), reason=hindrance())]


def share(house: House) -> dict[str, Any]:
    """mountVolumes with a share of an embedded account."""
    client = house.client
    client.storage_accounts.create("acct")
    key = client.storage_accounts.keys("acct")[0].get("value")
    entry = {"accountName": "acct", "azureFileUrl": "https://acct.file.core.windows.net/share"}
    return {"azureFileShares": [{**entry, "relativeMountPath": "afs", "credentials": {"accountKey": key}}]}


def test_a_share_of_the_job(house: House) -> None:
    volumes = share(house)
    command = "cd $AZ_BATCHAI_JOB_MOUNT_ROOT/afs; echo of the container > mine; ls; df . | wc -l"
    assert house.said(command, mountVolumes=volumes) == "mine\n2\n"
    assert (house.live.home / "storage/acct/files/share/mine").read_text() == "of the container\n"
    assert (house.live.home / "storage/acct/files/share/mine").stat().st_uid == 0
    # Its logs and outputs may lie there too, and the next container has nothing of it.
    prefix = "$AZ_BATCHAI_JOB_MOUNT_ROOT/afs/results"
    name = house.start("echo said", mountVolumes=volumes, stdOutErrPathPrefix=prefix)
    assert house.end(name).execution_state.value == "succeeded"
    assert b"".join(house.client.jobs.stream_log(name)) == b"said\n"
    assert house.said("[ -e $AZ_BATCHAI_JOB_MOUNT_ROOT ] || echo nothing") == "nothing\n"


@pytest.mark.skipif(bool(nfs.why_not()), reason=f"no file servers here: {nfs.why_not()}")
@pytest.mark.skipif(not available(), reason="libnfs is not installed: apt-get install libnfs13")
def test_a_file_server_of_two_clusters_written_in_a_container_and_read_on_the_host(house: House) -> None:
    client = house.client
    server = {"fileServer": {"id": client.file_servers.create("nfs", SERVER).id}, "relativeMountPath": "nfs"}
    clusters = [_cluster(house, name, server) for name in ("writers", "readers")]
    told = house.said("cd $AZ_BATCHAI_MOUNT_ROOT/nfs; echo words > file; df . | tail -1", cluster=clusters[0])
    assert "nfs" in told.split()[-1]
    look = "cd $AZ_BATCHAI_MOUNT_ROOT/nfs; cat file; stat -c %u file; id -u"
    client.jobs.create("reader", custom(look, clusters[1]))
    assert house.end("reader").execution_state.value == "succeeded"
    words, owner, own = b"".join(client.jobs.stream_log("reader")).decode().split()
    assert words == "words" and owner == own
    for name in ("writers", "readers"):
        client.clusters.delete(name)
    client.file_servers.delete("nfs")


def _cluster(house: House, name: str, volume: dict[str, Any]) -> str:
    client = house.client
    client.clusters.create(
        name,
        {
            "vmSize": "STANDARD_D1",
            "scaleSettings": {"manual": {"targetNodeCount": 1}},
            "userAccountSettings": {"adminUserName": "tester", "adminUserPassword": "only-for-tests-1"},
            "nodeSetup": {"mountVolumes": {"fileServers": [volume]}},
        },
    )
    house.live.wait_for(lambda: client.clusters.get(name).nodes_in("idle") == 1, f"the node of {name}")
    return str(client.clusters.get(name).id)
