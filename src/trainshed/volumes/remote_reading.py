"""Reading a directory of what rclone can reach, without a mount: one short process for each listing and each look.

A file that is read on and on is one process that writes it into a pipe. Credentials are in the processes' environment
only.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import IO, Any

from trainshed.resources.directories import join
from trainshed.volumes.filetree import Entry
from trainshed.volumes.rclone import HOW_TO_INSTALL, NO_RETRIES, REMOTE, Remote, environment_of, find, plain
from trainshed.volumes.reading import FileFacts, Unreadable

_SECONDS = 60.0
#: rclone's exit codes for what is not there (rclone.org/docs, "List of exit codes").
_NO_DIRECTORY, _NO_FILE = 3, 4
#: Seconds between two looks whether a file that was read to its end has become longer.
_LOOK_AGAIN = 2.0


class RcloneReader:
    """A directory of a remote (``volumes.reading.Reader``)."""

    def __init__(self, remote: Remote, path: str, title: str, secrets: Sequence[str]) -> None:
        """``path`` is relative to the remote's; ``title`` names the volume in errors, which hold none of ``secrets``.

        Raises Unreadable.
        """
        self._program = find()
        if not self._program:
            raise Unreadable(f"{title} needs rclone on the service's machine: {HOW_TO_INSTALL}")
        self._environment = environment_of(self._program, remote)
        self._root = f"{REMOTE}:{join(remote.path, path)}"
        self._title = title
        self._secrets = [secret for secret in secrets if secret]

    def list(self, inside: str, after: str | None, limit: int) -> list[Entry]:
        """One level, as Reader says."""
        found = self._ask("lsjson", "--no-mimetype", self._place(inside))
        entries = sorted((_entry(told) for told in found or ()), key=lambda entry: entry.name)
        return [entry for entry in entries if after is None or entry.name > after][:limit]

    def open(self, inside: str) -> RcloneFile | None:
        """The file, as Reader says."""
        facts = self.stat(inside)
        return None if facts is None else RcloneFile(self, inside, facts)

    def stat(self, inside: str) -> FileFacts | None:
        """The file as it is now; None where there is none. Raises Unreadable."""
        told = self._ask("lsjson", "--stat", "--no-mimetype", self._place(inside))
        if told is None or told["IsDir"]:
            return None
        return FileFacts(told["Size"], _modified_ns(told))

    def start_reading(self, inside: str, offset: int) -> subprocess.Popen[bytes]:
        """A process that writes the file from this byte on to its standard output. Raises Unreadable."""
        try:
            return subprocess.Popen(
                [self._program, "cat", "--config=", *NO_RETRIES, f"--offset={offset}", self._place(inside)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise Unreadable(f"{self._title}: {error}") from error

    def _place(self, inside: str) -> str:
        return f"{self._root}/{inside}" if inside else self._root

    def _ask(self, *arguments: str) -> Any:
        """What rclone says in JSON; None where there is nothing of that name. Raises Unreadable."""
        try:
            done = subprocess.run(
                [self._program, *arguments, "--config=", *NO_RETRIES],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreadable(f"{self._title} does not answer: {error}") from error
        if done.returncode in (_NO_DIRECTORY, _NO_FILE):
            return None
        if done.returncode:
            said = plain(done.stderr)
            for secret in self._secrets:
                said = said.replace(secret, "***")
            raise Unreadable(f"{self._title} cannot be read: {said}")
        return json.loads(done.stdout)


class RcloneFile:
    """An open file (``volumes.reading.OpenFile``). Reading on from where one stopped costs least."""

    def __init__(self, reader: RcloneReader, inside: str, facts: FileFacts) -> None:
        self._reader = reader
        self._inside = inside
        self._facts = facts
        self._looked_at = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._at = 0
        # A reader that was given up may still be waiting for bytes in its thread.
        self._guard = threading.Lock()

    def facts(self) -> FileFacts:
        """As it was when it was looked at last, at most some seconds ago for one that is being read at its end."""
        return self._facts

    def read(self, offset: int, most: int) -> bytes:
        """From a byte on; empty at the end. Raises Unreadable."""
        with self._guard:
            if offset >= self._facts.size and not self._longer(offset):
                return b""
            if self._process is None or self._at != offset:
                self._stop()
                self._process = self._reader.start_reading(self._inside, offset)
                self._at = offset
            pipe: IO[bytes] | None = self._process.stdout
            assert pipe is not None
            piece = pipe.read(min(most, self._facts.size - offset))
            self._at += len(piece)
            if not piece or self._at >= self._facts.size:
                self._stop()
            return piece

    def close(self) -> None:
        """Let it go. Again does nothing."""
        process = self._process
        if process is not None:
            # Whoever is reading in another thread gets the end of the file.
            with suppress(ProcessLookupError):
                process.kill()
        with self._guard:
            self._stop()

    def _longer(self, offset: int) -> bool:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_AGAIN:
            return False
        self._looked_at = now
        found = self._reader.stat(self._inside)
        if found is not None:
            self._facts = found
        return offset < self._facts.size

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _entry(told: dict[str, Any]) -> Entry:
    if told["IsDir"]:
        return Entry(told["Name"], True)
    return Entry(told["Name"], False, told["Size"], _modified_ns(told) // 1_000_000)


def _modified_ns(told: dict[str, Any]) -> int:
    return int(datetime.fromisoformat(told["ModTime"]).timestamp() * 1000) * 1_000_000
