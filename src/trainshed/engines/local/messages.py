"""JSON lines over sockets: framing for the ends of the service, the daemon and the nodes."""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, Any]
#: Of what service and daemon say to each other; raised with every change that an older counterpart would misunderstand.
PROTOCOL = 4
#: Longest message that is read: a job with its code manifest.
MESSAGE_LIMIT = 64 * 2**20


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class Lines:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line]
