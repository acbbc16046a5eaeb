"""Stands between Slurm's nodes and the engine that they call, and cuts off some of them."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import psutil


class Gate:
    """Passes connections on to the engine, but those of nodes that it is to cut off. Runs in a thread of its own."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.target = 0
        self._cut: set[str] = set()
        self._open: list[tuple[str, socket.socket, socket.socket]] = []

    def __enter__(self) -> Gate:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.cut_off(*{name for name, _, _ in self._open})

    def cut_off(self, *names: str) -> None:
        self._cut.update(names)
        for name, *ends in self._open:
            if name in names:
                for end in ends:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                theirs, address = self._listening.accept()
                name = self._node_of(address[1])
                try:
                    ours = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    theirs.close()
                    continue
                self._open.append((name, theirs, ours))
                if name in self._cut:
                    self.cut_off(name)
                for source, sink in ((theirs, ours), (ours, theirs)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _node_of(self, port: int) -> str:
        """Whose process has this end of a connection."""
        for one in psutil.net_connections("tcp4"):
            if one.laddr and one.laddr.port == port and one.pid:
                with suppress(OSError):
                    variables = Path(f"/proc/{one.pid}/environ").read_bytes().split(b"\0")
                    found = [v.partition(b"=")[2].decode() for v in variables if v.startswith(b"SLURMD_NODENAME=")]
                    return found[0] if found else ""
        return ""

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
