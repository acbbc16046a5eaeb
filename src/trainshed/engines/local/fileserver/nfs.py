"""nfs-ganesha as the NFS server of a file server: whether it is to be had, its configuration, its commands.

NFSv3 and v4 over TCP, at the file server's own address. Every caller is the service's own user on disk (All_Squash), so
that all clusters may read and write what others wrote. Who is not root on this machine is turned away (PrivilegedPort):
jobs of other workspaces that run as users of their own cannot go round the mounts that they were given.

NFSv3 needs a portmapper to register with (ganesha says "Cannot register NFS V3" and gives up without one). It gets
a ``rpcbind`` of its own in a network namespace without any interface, reached by the socket in the private ``/run``;
clients are told the ports.
"""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainshed.resources.exports import MOUNT_POINT

#: The usual ports (RFC 7530; the second is what distributions give to rpc.mountd).
PORTS = (2049, 20048)
_FSAL = ("/usr/lib/*/ganesha/libfsalvfs.so", "/usr/lib*/ganesha/libfsalvfs.so")
#: Bytes of the log after which it begins anew; the former one is kept.
_LOG_LIMIT = 8 * 2**20
_WORDS = 600
#: What ganesha complains of at each start where there is neither D-Bus nor Kerberos.
_USUAL = ("DBUS", "gssd", "keytab", "Cannot acquire credentials")


@dataclass(frozen=True, slots=True)
class Export:
    """What is served, and where."""

    directory: str
    address: str
    port: int
    mount_port: int


def why_not() -> str:
    """Why file servers cannot serve NFS here, with what mends it; empty when they can."""
    if os.geteuid() != 0:
        return "the service does not run as root, which nfs-ganesha needs; run trainshed serve as root"
    wanted = {"ganesha.nfsd": "nfs-ganesha", "rpcbind": "rpcbind"}
    absent = [package for program, package in wanted.items() if _program(program) is None]
    if not any(list(Path("/").glob(pattern.lstrip("/"))) for pattern in _FSAL):
        absent.append("nfs-ganesha-vfs")
    if absent:
        return f"{' and '.join(absent)} not installed; apt-get install nfs-ganesha nfs-ganesha-vfs rpcbind"
    return ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")


def free_port(address: str, preferred: int) -> int:
    """The preferred port where nobody has it, else another one. Raises OSError when the address cannot be had."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen(1)
            except OSError:
                if port == 0:
                    raise
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("unreachable")


def configuration(export: Export, recovery: Path) -> str:
    """ganesha.conf (ganesha-core-config(8), ganesha-export-config(8), ganesha-cache-config(8)).

    Nothing of directories and attributes is kept: who logs in by SSH changes them behind the NFS server's back.
    """
    user, group = os.geteuid(), os.getegid()
    return f"""\
NFS_CORE_PARAM {{
    Protocols = 3, 4;
    Bind_addr = {export.address};
    NFS_Port = {export.port};
    MNT_Port = {export.mount_port};
    Enable_NLM = false;
    Enable_RQUOTA = false;
    Enable_UDP = false;
    mount_path_pseudo = true;
}}
NFSv4 {{ Graceless = true; RecoveryRoot = "{recovery}"; }}
MDCACHE {{ Dir_Chunk = 0; }}
EXPORT {{
    Export_Id = 1;
    Path = "{export.directory}";
    Pseudo = "{MOUNT_POINT}";
    Access_Type = RW;
    Squash = All_Squash;
    Anonymous_Uid = {user};
    Anonymous_Gid = {group};
    SecType = sys;
    PrivilegedPort = true;
    Attr_Expiration_Time = 0;
    FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""


def server_command(configuration_file: Path, log: Path) -> list[str]:
    """Stays in the foreground."""
    program = _program("ganesha.nfsd") or "ganesha.nfsd"
    return [program, "-F", "-f", str(configuration_file), "-L", str(log), "-p", "/run/ganesha/ganesha.pid"]


def portmapper_command() -> list[str]:
    """Stays in the foreground."""
    return [_program("rpcbind") or "rpcbind", "-w", "-f"]


def turn_over(log: Path) -> None:
    """Begin a new log when it has become long."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(".1.log"))


def last_words(log: Path) -> str:
    """What the server said last of its troubles, for people."""
    with suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()[-200:]
        bad = [line for line in lines if any(level in line for level in (":CRIT ", ":MAJ ", ":FATAL ", ":CRIT:"))]
        told = [line.partition("[main] ")[2] or line for line in bad if not any(word in line for word in _USUAL)]
        return "; ".join(dict.fromkeys(told))[-_WORDS:]
    return ""
