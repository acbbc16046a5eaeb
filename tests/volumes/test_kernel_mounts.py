"""Real kernel mounts of NFS and SMB by the drivers that nodes use, in a guest whose kernel has them.

The guest is user-mode Linux, a kernel that is a process. What its kernel cannot promise is left out by name in
``tests/support/guest_world.py``: SMB has no modes and no hard links here, and its locks are mandatory.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.guest_world import MODULES
from trainshed.engines.local.fileserver import nfs

_WORLD = Path(__file__).parents[1] / "support" / "guest_world.py"
_PROGRAMS = {
    "linux.uml": "user-mode-linux",
    "mount.nfs4": "nfs-common",
    "mount.cifs": "cifs-utils",
    "modprobe": "kmod",
    "smbd": "samba",
    "smbpasswd": "samba",
    "unshare": "util-linux",
}


def _why_not() -> str:
    if os.geteuid() != 0:
        return "networks and guests are made by root"
    absent = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    if absent:
        return f"not installed: apt-get install {' '.join(absent)}"
    if not MODULES.is_dir() or not Path("/dev/net/tun").exists():
        return "the guest's modules or /dev/net/tun are not there"
    return nfs.why_not()


@pytest.mark.slow
@pytest.mark.skipif(bool(_why_not()), reason=f"no guest here: {_why_not()}")
def test_the_kernels_own_clients_mount_file_servers_and_shares(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    spaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    done = subprocess.run(
        [*spaces, sys.executable, str(_WORLD), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    ended = dict(re.findall(r"^(\w+) ended with (\d+)", done.stdout, re.MULTILINE))
    assert ended == {"nfs42": "0", "nfs3": "0", "cifs": "0"}, done.stdout
    mounted = dict(re.findall(r" /run/(\w+)/target (\w+) ", done.stdout))
    assert mounted == {"nfs42": "nfs4", "nfs3": "nfs", "cifs": "cifs"}
    assert "vers=4.2" in done.stdout
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    record_property("throughput of nfs42, nfs3, cifs", json.dumps(figures))
    # What the guest closed lies at the servers after its end, as the service's own.
    for folder, mounts in (("data", 2), ("share", 1)):
        found = list((tmp_path / folder).glob("checks-*/small/*"))
        assert len(found) == mounts * 200
        assert {path.stat().st_uid for path in found} == {0}
        assert {path.stat().st_size for path in found} == {4096}
