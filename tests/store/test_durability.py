"""What was acknowledged is there after ``kill -9``, and what was not leaves no half."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trainshed.store import events, meta
from trainshed.store.database import Database

_WRITER = """
import os, sys
from trainshed.store import events, meta
from trainshed.store.database import Database

db = Database.open(sys.stdin.readline().strip())
number = 0
while True:
    number += 1
    def write(tx):
        meta.set(tx, "last", str(number))
        events.append(tx, kind="job", resource_key="k", event="e", from_state=None, to_state=None, now=number)
    db.write_sync(write)
    os.write(1, f"{number}\\n".encode())
"""


@pytest.mark.slow
@pytest.mark.parametrize("acknowledgements", [1, 57])
def test_kill_9_loses_nothing_acknowledged_and_halves_nothing(url: str, acknowledgements: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", _WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(url.encode() + b"\n")
    output = b""
    while output.count(b"\n") < acknowledgements:
        chunk = child.stdout.read(4096)
        assert chunk, "the writer ended by itself"
        output += chunk
    child.kill()
    output += child.stdout.read()
    child.wait(30)
    child.stdin.close()
    child.stdout.close()
    acknowledged = int(output[: output.rindex(b"\n")].splitlines()[-1])

    db = Database.open(url)
    last = int(db.read_sync(lambda tx: meta.get(tx, "last")) or 0)
    logged = db.read_sync(lambda tx: [event.at for event in events.page(tx, resource_key="k", limit=10**6)])
    db.close_sync()
    # One more may have been committed than its acknowledgement could be written.
    assert acknowledged <= last <= acknowledged + 1
    assert logged == list(range(1, last + 1))
