"""Secrets that a test can find again, in whatever form somebody wrote them down."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import MARK_VARIABLE


def mark(kind: str) -> str:
    """A secret's value: unlike anything else, and the same in every run."""
    return f"mk{hashlib.sha256(kind.encode()).hexdigest()[:30]}"


def forms(value: bytes) -> frozenset[bytes]:
    """The value as it may have been written: plain, UTF-16, hexadecimal, base64 at any offset."""
    found = {value, value.hex().encode(), value.hex().upper().encode()}
    found |= {value[::-1]}
    try:
        found |= {value.decode().encode("utf-16-le"), value.decode().encode("utf-16-be")}
    except UnicodeDecodeError:
        pass
    for offset in range(3):
        # Only the characters that no neighbour has a part in.
        coded = base64.b64encode(b"\0" * offset + value)[(4 * offset + 2) // 3 :]
        whole = coded[: len(coded) - 4].rstrip(b"=")
        found |= {whole, whole.replace(b"+", b"-").replace(b"/", b"_")}
    return frozenset(found)


@dataclass
class Marks:
    """Marked secrets by name."""

    values: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, value: str | bytes | None = None) -> str:
        """A new mark, or a given value; as text."""
        given = mark(name) if value is None else value
        self.values[name] = given.encode() if isinstance(given, str) else given
        return given if isinstance(given, str) else given.hex()

    def in_bytes(self, content: bytes) -> set[str]:
        """Names of the secrets that are in there, in any form."""
        return {name for name, value in self.values.items() if any(form in content for form in forms(value))}

    def in_files(self, root: Path, *, allowed: Iterable[str] = ()) -> dict[str, set[str]]:
        """What is in the files below a directory, and in their names, but for ``allowed`` (patterns)."""
        hits: dict[str, set[str]] = {}
        for path in root.rglob("*"):
            relative = path.relative_to(root)
            content = os.fsencode(relative)
            if path.is_file() and not path.is_symlink() and not any(relative.match(pattern) for pattern in allowed):
                try:
                    content += path.read_bytes()
                except FileNotFoundError:
                    continue
            if found := self.in_bytes(content):
                hits[str(relative)] = found
        return hits


class ProcessWatch:
    """Looks at every process of the machine, over and over, until it is stopped."""

    def __init__(self, marks: Marks, home: Path) -> None:
        self._marks = dict(marks.values)
        self._own = f"{MARK_VARIABLE}={Layout(home).mark}".encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="process-watch", daemon=True)
        #: (secret, command line) seen on a command line; in the environment of the service, daemon, node, runner; and
        #: of what the user's own commands run in.
        self.commands: set[tuple[str, str]] = set()
        self.service: set[tuple[str, str]] = set()
        self.users: set[tuple[str, str]] = set()
        self.rounds = 0

    def watch(self, marks: Marks) -> None:
        """Look for these from now on."""
        self._marks = dict(marks.values)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self._look()
            self.rounds += 1

    def _look(self) -> None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and entry.name != str(os.getpid()):
                try:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                self._note(self.commands, command, command)
                if self._own in environment.split(b"\0") or b"trainshed serve" in command.replace(b"-m ", b""):
                    of_user = b"\0AZ_BATCHAI_MOUNT_ROOT=" in b"\0" + environment
                    self._note(self.users if of_user else self.service, environment, command)

    def _note(self, seen: set[tuple[str, str]], content: bytes, command: bytes) -> None:
        for name, value in self._marks.items():
            if value in content or value.hex().encode() in content:
                seen.add((name, command.decode(errors="replace")))


def names(seen: set[tuple[str, str]]) -> set[str]:
    """The secrets alone."""
    return {name for name, _ in seen}
