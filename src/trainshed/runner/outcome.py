"""The outcome of an attempt on this node as a file, durable before anybody is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trainshed.runner.spec import Outcome

FILE_NAME = "outcome.json"


def write(state: str, outcome: Outcome) -> None:
    """Write, fsync, rename, fsync the directory: afterwards the outcome survives a power cut. Raises OSError."""
    path = f"{state}/{FILE_NAME}"
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(outcome.to_dict(), separators=(",", ":")).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    Path(temporary).rename(path)
    directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(state: str) -> Outcome | None:
    """The outcome that was written, or None when the attempt never came so far."""
    try:
        text = Path(state, FILE_NAME).read_text()
    except FileNotFoundError:
        return None
    return Outcome.from_dict(json.loads(text))
