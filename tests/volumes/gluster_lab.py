"""GlusterFS in namespaces of its own: ``unshare -m -n -p -f --kill-child --mount-proc python -m ... FOLDER``.

Two jobs one after another, each mounting the volume by its mount command; the first is killed in the middle of a write.
What it finds out is printed as JSON. All servers end with the PID namespace.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.runner.harness import custom, make_spec, run, stdouterr

ADDRESS = "10.77.0.1"
_PATIENCE = 60.0


def main(folder: Path) -> None:
    """All of it."""
    shell("ip link set lo up", f"ip addr add {ADDRESS}/32 dev lo", "mount --make-rprivate /")
    for path in ("/var/lib/glusterd", "/var/log/glusterfs", "/run"):
        Path(path).mkdir(parents=True, exist_ok=True)
        shell(f"mount -t tmpfs none {path}")
    Path("/run/gluster").mkdir()
    subprocess.Popen(["glusterd", "-N"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: gluster("volume", "info"))
    (folder / "brick").mkdir()
    assert gluster("volume", "create", "v1", f"{ADDRESS}:{folder}/brick", "force")
    assert gluster("volume", "start", "v1")
    volumes = {
        "unmanagedFileSystems": [{"mountCommand": f"mount -t glusterfs {ADDRESS}:/v1", "relativeMountPath": "g"}]
    }
    write = "cd $AZ_BATCHAI_JOB_MOUNT_ROOT/g && mkdir small && for n in $(seq 200); do echo $n > small/$n; done && "
    write += "head -c 209715200 /dev/urandom > big && sha256sum big > sum && exec 3>half && echo half >&3 && kill -9 $$"
    killed = run(make_spec(folder, custom(write, mountVolumes=volumes)))
    read = "cd $AZ_BATCHAI_JOB_MOUNT_ROOT/g && sha256sum -c sum && ls small | wc -l && findmnt -n -o FSTYPE -T ."
    outcome = run(make_spec(folder, custom(read, mountVolumes=volumes)))
    told = (stdouterr(folder) / "stdout.txt").read_text().split("\n")
    print(json.dumps({"killed": killed.exit_code, "read": outcome.result, "told": told}))


def shell(*commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True)


def gluster(*arguments: str) -> bool:
    command = ["gluster", "--mode=script", *arguments]
    return subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False).returncode == 0


def until(holds) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < end, "glusterd does not answer"
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
