"""Mounts an NFS export through FUSE and serves it until it is unmounted.

Run as ``python -m trainshed.volumes.nfs_client ADDRESS:EXPORT MOUNT_POINT --port N --mount-port N ...``. Ends with 0
after an unmount, and with 1 and one line on standard error when the export cannot be mounted.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
import time

from trainshed.volumes.libnfs import Connection, LibraryMissing, Pool, Server
from trainshed.volumes.nfs_options import BELIEVED

#: Seconds that one attempt to connect may take, and between two of them.
_CONNECT_SECONDS, _LOOK_AGAIN = 5.0, 0.05


def main() -> int:
    """Entry of the client's process."""
    parser = argparse.ArgumentParser(prog="trainshed-nfs-client", description=__doc__)
    parser.add_argument("source", help="address and export, as in 127.0.0.1:/mnt/data")
    parser.add_argument("mount_point")
    parser.add_argument("--port", type=int, default=2049)
    parser.add_argument("--mount-port", type=int, default=20048)
    parser.add_argument("--directory", default="/", help="directory of the export to mount")
    parser.add_argument("--uid", type=int, default=os.geteuid())
    parser.add_argument("--gid", type=int, default=os.getegid())
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--no-exec", action="store_true")
    parser.add_argument("--believed", type=int, default=BELIEVED, help="seconds for which attributes are believed")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds to wait for a server that is starting")
    asked = parser.parse_args()
    # Who starts it may ignore signals, and libfuse leaves those alone that are ignored.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    address, _, export = asked.source.partition(":")
    server = Server(address, export, asked.port, asked.mount_port)
    try:
        _wait(server, asked.patience)
        _look(server, asked.directory)
        _serve(server, asked)
    except (LibraryMissing, OSError, RuntimeError, ImportError) as error:
        print(error.strerror if isinstance(error, OSError) and error.strerror else error, file=sys.stderr)
        return 1
    return 0


def _wait(server: Server, seconds: float) -> None:
    """Until it listens: libnfs would try for ever. Raises OSError."""
    deadline = time.monotonic() + seconds
    for port in (server.port, server.mount_port):
        while True:
            try:
                socket.create_connection((server.address, port), _CONNECT_SECONDS).close()
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    why = f"{server.address} port {port}: {error.strerror or error}"
                    raise OSError(error.errno or errno.ETIMEDOUT, why) from error
                time.sleep(_LOOK_AGAIN)


def _look(server: Server, directory: str) -> None:
    """Raises OSError when there is no such directory."""
    connection = Connection(server)
    try:
        if connection.stat(os.fsencode(directory)).mode & 0o170000 != 0o040000:
            raise OSError(errno.ENOTDIR, f"{directory} of the export is not a directory")
    finally:
        connection.close()


def _serve(server: Server, asked: argparse.Namespace) -> None:
    try:
        import mfusepy
    except (ImportError, OSError) as error:
        raise ImportError(f"{error}; pip install 'trainshed[volumes]' and apt-get install fuse3") from error
    from trainshed.volumes.nfs_fuse import NfsOperations

    everybody = {"allow_other": True} if os.geteuid() == 0 else {}
    mfusepy.FUSE(
        NfsOperations(Pool(server), asked.directory, asked.uid, asked.gid),
        asked.mount_point,
        foreground=True,
        fsname=asked.source,
        subtype="nfs",
        default_permissions=True,
        auto_cache=True,
        use_ino=True,
        attr_timeout=asked.believed,
        entry_timeout=asked.believed,
        negative_timeout=0,
        ro=asked.read_only,
        noexec=asked.no_exec,
        **everybody,
    )


if __name__ == "__main__":
    sys.exit(main())
