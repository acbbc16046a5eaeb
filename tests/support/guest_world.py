"""A network of its own with an NFS and an SMB server, and a user-mode Linux guest in it that mounts them.

Run as ``unshare --net --mount --pid --fork --kill-child --propagation private python guest_world.py FOLDER``: nothing
of it outlives that. The guest's root is the machine's, read-only; it runs the drivers as a node with such a kernel
does (platform notes, section D). The guest's console is standard output.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from trainshed.engines.local.fileserver import nfs

HOST, GUEST = "10.77.0.1", "10.77.0.2"
USER, PASSWORD = "shedtest", "only+for/tests,==1"
MODULES = Path("/usr/lib/uml/modules")
_SUPPORT = Path(__file__).parent
#: Seconds within which a server must listen.
_PATIENCE = 20.0


def main() -> int:
    """The guest's exit status."""
    folder = Path(sys.argv[1])
    _network()
    _nfs(folder)
    _smb(folder)
    _until(lambda: _listening({2049, 20048, 445}), "servers that listen")
    init = _init(folder)
    return subprocess.run(
        [
            "linux.uml", "umid=trainshed", f"uml_dir={folder}/uml", "mem=256M", "root=/dev/root", "rootfstype=hostfs",
            "rootflags=/", "ro", f"init={init}", "vec0:transport=tap,ifname=tapu0,depth=64,gro=1", "con=null",
            "con0=fd:0,fd:1", "quiet", "panic=-1",
        ],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder)},
        check=False,
    ).returncode  # fmt: skip


def _network() -> None:
    for command in (
        "ip link set lo up",
        "ip tuntap add dev tapu0 mode tap",
        f"ip addr add {HOST}/24 dev tapu0",
        "ip link set tapu0 up",
        "mount -t proc proc /proc",
        "mount -t tmpfs none /run",
    ):
        subprocess.run(command.split(), check=True)


def _nfs(folder: Path) -> None:
    """By the configuration that file servers have."""
    for name in ("data", "recovery"):
        (folder / name).mkdir()
    for name in ("ganesha", "rpcbind"):
        Path("/run", name).mkdir()
    export = nfs.Export(str(folder / "data"), HOST, *nfs.PORTS)
    settings = folder / "ganesha.conf"
    settings.write_text(nfs.configuration(export, folder / "recovery"))
    _start(nfs.portmapper_command(), folder / "rpcbind.log")
    _until(Path("/run/rpcbind.sock").exists, "rpcbind")
    _start(nfs.server_command(settings, folder / "ganesha.log"), folder / "ganesha.out")


def _smb(folder: Path) -> None:
    (folder / "share").mkdir()
    (folder / "users").write_text(f"root = {USER}\n")
    kinds = ("private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir")
    state = "\n".join(f"{name} = {folder}" for name in kinds)
    settings = folder / "smb.conf"
    settings.write_text(
        f"[global]\nworkgroup = TEST\nsecurity = user\ninterfaces = {HOST}\nbind interfaces only = yes\n"
        f"smb ports = 445\nserver min protocol = SMB3\ndisable netbios = yes\nload printers = no\n"
        f"username map = {folder}/users\n{state}\n[data]\npath = {folder}/share\nread only = no\nforce user = root\n"
    )
    told = f"{PASSWORD}\n{PASSWORD}\n"
    add = ["smbpasswd", "-c", str(settings), "-s", "-a", "root"]
    subprocess.run(add, input=told, text=True, check=True, stdout=subprocess.DEVNULL)
    _start(["smbd", "-s", str(settings), "-F", "--no-process-group", "--debug-stdout"], folder / "smbd.log")


def _start(command: list[str], log: Path) -> None:
    with log.open("ab") as output:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)


def _listening(ports: set[int]) -> bool:
    """Looked up, not tried: to a connection that is dropped at once some servers answer with a long wait."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                found.add(int(local.rpartition(":")[2], 16))
    return ports <= found


def _init(folder: Path) -> Path:
    """The guest's first process: modules, network, what is to be tried, the end."""
    version = next(MODULES.iterdir()).name
    tree = folder / "modules" / "lib" / "modules"
    tree.mkdir(parents=True)
    (tree / version).symlink_to(MODULES / version)
    programs = folder / "bin"
    programs.mkdir()
    _script(programs / "modprobe", f'exec /sbin/modprobe -d {folder}/modules "$@"')
    reached = {"mountPoint": "/mnt/data", "fileServerInternalIP": HOST, "nfsPort": 2049, "mountPort": 20048}
    share = {
        "accountName": USER,
        "azureFileUrl": f"https://{USER}.file.core.windows.net/data",
        "endpoint": f"{HOST}:445",
    }
    tried = [
        _try("nfs42", "fileServers", {"mountSettings": reached, "mountOptions": "rw,noatime"}),
        _try("nfs3", "fileServers", {"mountSettings": reached, "mountOptions": "vers=3"}),
        _try("cifs", "azureFileShares", share, "create_and_modes", "links", "database"),
    ]
    return _script(
        folder / "init",
        f"export PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1",
        "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs none /run",
        f"echo {programs}/modprobe > /proc/sys/kernel/modprobe",
        f"hostname guest; ip link set lo up; ip addr add {GUEST}/24 dev vec0; ip link set vec0 up; modprobe cifs",
        *tried,
        f'{sys.executable} -c "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)"',
    )


def _try(name: str, kind: str, settings: dict[str, object], *left_out: str) -> str:
    request = {
        "kind": kind,
        "title": name,
        "settings": settings,
        "secrets": {"accountKey": PASSWORD},
        "uid": 1900001000,
        "target": f"/run/{name}/target",
        "folder": f"/run/{name}/folder",
    }
    command = [sys.executable, str(_SUPPORT / "mount_program.py"), json.dumps(request)]
    checks = f"exec timeout -s KILL 25 {sys.executable} {_SUPPORT}/file_system_checks.py {{}} {' '.join(left_out)}"
    command += ["sh", "-c", f"grep ' {request['target']} ' /proc/mounts; {checks}"]
    return f"{shlex.join(command)} 2>&1; echo {name} ended with $?"


def _script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    sys.exit(main())
