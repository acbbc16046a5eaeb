"""Logs that are kept elsewhere until they are in their own place: read as one directory (``directories.kept_logs``)."""

from __future__ import annotations

import time
from collections.abc import Iterator

from trainshed.resources.directories import join
from trainshed.volumes.reading import Entry, OpenFile, OutsideRoot, Reader, Unreadable

#: Nodes of a job whose logs are looked for.
_MOST_NODES = 1000
_ASK_AGAIN = 2.0


class KeptLogsReader:
    """A ``stdouterr`` directory (``volumes.reading.Reader``). What is kept is newer than what is in its own place."""

    def __init__(self, kept: Reader, own: Reader) -> None:
        """``kept`` has a directory for each node."""
        self._kept = kept
        self._own = own
        #: When a file was looked for in vain in its own place.
        self._missed: dict[str, float] = {}

    def list(self, inside: str, after: str | None, limit: int) -> list[Entry]:
        """One level, as Reader says. While the own place cannot be read, what is kept is all."""
        found: dict[str, Entry] = {}
        for node in self._nodes():
            for entry in self._kept.list(join(node, inside), after, limit):
                found.setdefault(entry.name, entry)
        try:
            for entry in self._own.list(inside, after, limit):
                found.setdefault(entry.name, entry)
        except Unreadable:
            if not found:
                raise
        return sorted(found.values(), key=lambda entry: entry.name)[:limit]

    def open(self, inside: str) -> OpenFile | None:
        """The regular file, as Reader says. Who waits for one asks often, and the own place is far away: it is asked
        again for a file that was not there only after some seconds.
        """
        for node in self._nodes():
            file = self._kept.open(join(node, inside))
            if file is not None:
                return file
        now = time.monotonic()
        if now - self._missed.get(inside, -_ASK_AGAIN) < _ASK_AGAIN:
            return None
        file = self._own.open(inside)
        if file is None:
            self._missed[inside] = now
        return file

    def _nodes(self) -> Iterator[str]:
        try:
            nodes = self._kept.list("", None, _MOST_NODES)
        except OutsideRoot:
            return
        yield from (entry.name for entry in nodes if entry.is_directory)
