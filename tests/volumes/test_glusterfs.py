"""GlusterFS through a mount command, in namespaces of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces"),
    pytest.mark.skipif(
        not shutil.which("glusterd"), reason="GlusterFS is not installed (apt-get install glusterfs-server)"
    ),
]


def test_glusterfs_by_a_mount_command(tmp_path: Path, mounts: None) -> None:
    command = [*["unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc"], sys.executable, "-m"]
    done = subprocess.run(
        [*command, "tests.volumes.gluster_lab", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"killed": 137, "read": "succeeded", "told": ["big: OK", "200", "fuse.glusterfs", ""]}
    assert (tmp_path / "brick/half").read_text() == "half\n"
