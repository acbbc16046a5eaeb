"""What ``trainshed serve --drain`` and ``--no-drain`` do to a service that runs already."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from pathlib import Path

from trainshed.controlling import Holding, hold, is_sqlite
from trainshed.service_home import AlreadyRunning
from trainshed.store import attempts, draining
from trainshed.store.database import Database

#: Seconds between two looks at a service that drains.
_LOOK_AGAIN = 0.5


def tell(home: Path, url: str, *, wanted: bool) -> int | None:
    """Have the service on this home finish what runs, start nothing more and leave; or have it go on.

    Returns the exit status; None when no service runs, so that this process is the one that serves (or drains).
    Raises StoreError, AlreadyRunning.
    """
    if not home.joinpath("service.lock").exists():
        return None if not wanted else _nothing_runs()
    db = Database.open(url)
    try:
        if not wanted:
            db.write_sync(draining.take_back)
            if _nobody_serves(home, url):
                return None
            _say("The service starts jobs again.")
            return 0
        drain = db.write_sync(lambda tx: draining.request(tx, uuid.uuid4().hex))
        return _wait(db, home, url, drain.id)
    finally:
        db.close_sync()


def _wait(db: Database, home: Path, url: str, id: str) -> int | None:
    said = ""
    while True:
        if _nobody_serves(home, url):
            drain = db.read_sync(draining.last)
            if drain is not None and not drain.done:
                return None
            if drain is not None and drain.id == id:
                _say("Nothing runs any more, and the service has left.")
                return 0
            return _taken_back()
        drain, live = db.read_sync(lambda tx: (draining.last(tx), attempts.live(tx)))
        running = sum(attempt.waiting is None for attempt in live)
        if drain is None or drain.id != id:
            return _taken_back()
        now = (
            "Nothing runs any more; the service leaves."
            if drain.done
            else f"The service starts no more jobs. It leaves when {running} running "
            f"{'job has' if running == 1 else 'jobs have'} ended; Ctrl-C ends only this command, "
            "and --no-drain takes it back."
        )
        if now != said:
            _say(now)
            said = now
        time.sleep(_LOOK_AGAIN)


def _nobody_serves(home: Path, url: str) -> bool:
    """Whether this process could have the home for itself now. Raises AlreadyRunning."""
    try:
        with hold(home, url) as holding:
            return _alone(holding)
    except AlreadyRunning:
        if is_sqlite(url):
            return False
        raise  # Who serves the home uses another database.


def _alone(holding: Holding) -> bool:
    with holding.members.alone() as alone:
        return alone


def _nothing_runs() -> int:
    _say("No service was ever started on this home: there is nothing to drain.")
    return 0


def _taken_back() -> int:
    _say("The service goes on: somebody took it back.")
    return 1


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
