"""Talks to a running rclone through its remote control (rclone.org/rc) on a Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from dataclasses import dataclass
from typing import Any

_SECONDS = 30.0


class RcloneControlError(Exception):
    """rclone does not answer, or refuses."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that was closed and is not uploaded."""

    id: int
    name: str
    #: How often it was tried in vain.
    tries: int
    #: Seconds until it is tried; negative while it is overdue.
    waits: float


class RcloneControl:
    """One rclone, whose socket has this name in a folder."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._name = name

    def call(self, command: str, **parameters: Any) -> dict[str, Any]:
        """What a command such as ``vfs/stats`` answers. Raises RcloneControlError."""
        connection = _UnixConnection(self._folder, self._name)
        try:
            connection.request("POST", f"/{command}", json.dumps(parameters), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != http.client.OK:
                raise RcloneControlError(body.decode(errors="replace")[:500])
            return dict(json.loads(body))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RcloneControlError(f"{command}: {error}") from error
        finally:
            connection.close()

    def queue(self) -> list[Waiting]:
        """What is not uploaded yet. Raises RcloneControlError."""
        items = self.call("vfs/queue").get("queue") or ()
        return [
            Waiting(item["id"], item["name"], item["tries"], 0.0 if item["uploading"] else item["expiry"])
            for item in items
        ]

    def hurry(self, item: Waiting) -> None:
        """Try it now instead of after the pause that follows a failure. Raises RcloneControlError."""
        self.call("vfs/queue-set-expiry", id=item.id, expiry=0.5)

    def bytes_moved(self) -> int:
        """Bytes that went to and from the remote since the start. Raises RcloneControlError."""
        return int(self.call("core/stats").get("bytes", 0))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, folder: str, name: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._folder = folder
        self._name = name

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        # By the folder's descriptor: the longest path of a socket is short (unix(7)).
        folder = os.open(self._folder, os.O_PATH | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._name}")
        finally:
            os.close(folder)
