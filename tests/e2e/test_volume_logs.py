"""Logs and outputs on storage that shows files only once they are closed: live meanwhile, in their place afterwards."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.test_volumes import USERS, Storage, storage
from tests.support.live_service import custom
from trainshed.engines.local.job_users import hindrance

__all__ = ["storage"]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(hindrance(USERS)), reason=f"jobs cannot have users of their own here: {hindrance(USERS)}"),
]

PRINTS = """
echo first
echo model > $AZ_BATCHAI_OUTPUT_MODEL/m.bin
until [ -e $AZ_BATCHAI_JOB_MOUNT_ROOT/%(volume)s/go-on ]; do sleep 0.1; done
echo last
"""


@pytest.mark.parametrize(("volume", "nodes"), [("blob", 2), ("smb", 1)])
def test_logs_are_live_and_then_in_their_place(storage: Storage, volume: str, nodes: int, tmp_path: Path) -> None:
    name, client = f"logs-{volume}", storage.client
    prefix = f"$AZ_BATCHAI_JOB_MOUNT_ROOT/{volume}/results"
    properties = custom(PRINTS % {"volume": volume}, storage.cluster, nodes, mountVolumes=storage.real())
    properties |= {"stdOutErrPathPrefix": prefix, "outputDirectories": [{"id": "MODEL", "pathPrefix": prefix}]}
    client.jobs.create(name, properties)
    pieces = iter(client.jobs.stream_log(name))
    assert next(pieces) == b"first\n"
    assert "stdout.txt" in [log.name for log in client.jobs.logs(name)]
    if volume == "smb":
        (storage.file.folder / "go-on").touch()
    else:
        storage.blob.rclone("touch", "blob:data/go-on")
    assert b"".join(pieces) == b"last\n"
    ended = client.jobs.wait(name, timeout=60)
    assert ended.execution_state.value == "succeeded", str(ended.json["properties"].get("executionInfo"))
    # Without any node, from the storage itself.
    done = {file.path.name: file.path for file in client.files.download(name, "stdouterr", tmp_path)}
    assert done["stdout.txt"].read_bytes() == b"first\nlast\n"
    assert "execution.log" in done
    (model,) = client.jobs.output_files(name, "MODEL")
    link = str(model.download_url)
    assert httpx.get(link).content == b"model\n"
    assert link.startswith(storage.blob.endpoint if volume == "blob" else storage.live.url)
