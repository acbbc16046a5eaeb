"""What the nodes of an attempt have written, read with the rights of the job's user and checked.

What lies in a user's folders may be anything.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainshed.engines.protocol import GangResult
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import NOBODY, AttemptFolder, Ticket
from trainshed.engines.slurm.owners import Owner, acting_as
from trainshed.resources.reasons import Reason
from trainshed.runner.outcome import FILE_NAME
from trainshed.runner.spec import Outcome

#: Seconds after which a claim that says nothing is no job's that has only begun to write it.
_WRITING_SECONDS = 30.0
_JOB = re.compile(r"\d+(_\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Told:
    """Of one attempt, now."""

    #: Unix ms, and nodes; None and empty before the first of them has begun.
    started_at: int | None
    hosts: tuple[str, ...]
    outcome: Outcome | None
    #: Whether Slurm asked the processes to end.
    signalled: bool


def told_by(folder: AttemptFolder, nodes: int, owner: Owner | None) -> Told:
    """Look into the folder of an attempt on so many nodes. Blocks."""
    with acting_as(owner):
        # A listing first: what was not there a moment ago may be in the cache of a network file system as absent.
        outcome = folder.state(0) / FILE_NAME
        signalled = any(places.is_there(folder.signalled(index)) for index in range(nodes))
        started_at, hosts = _start(folder)
        return Told(started_at, hosts, _outcome(outcome) if places.is_there(outcome) else None, signalled)


def claimed_by(ticket: Ticket, owner: Owner | None) -> tuple[str, str]:
    """Number of the job that has the ticket, and what its comment names; empty for none."""
    with acting_as(owner):
        job, of = places.claimant(ticket.claim)
    # Jobs of a user of the site take no turns: each names its own ticket.
    return (job, of if owner is None else ticket.folder.name) if _JOB.fullmatch(job) else ("", "")


def has_order(ticket: Ticket, run: int, owner: Owner | None) -> bool:
    """Whether the run knows what it is to carry out."""
    with acting_as(owner):
        return os.path.lexists(ticket.order(run))


def close(ticket: Ticket, owner: Owner | None) -> bool:
    """Nobody may use the ticket any more. False when a job has it. Raises OSError."""
    if claimed_by(ticket, owner)[0]:
        return False
    with acting_as(owner), suppress(FileNotFoundError):
        if not places.claim(ticket.claim, NOBODY) and places.claimant(ticket.claim)[0] != NOBODY:
            if time.time() - ticket.claim.lstat().st_mtime < _WRITING_SECONDS:
                return False
            # No job has written that.
            places.write(ticket.claim, {"job": NOBODY, "of": ""})
    return True


def _start(folder: AttemptFolder) -> tuple[int | None, tuple[str, ...]]:
    found = places.read(folder.hosts)
    try:
        return int(found["started_at"]), tuple(str(host["node_id"]) for host in found["hosts"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None, ()


def _outcome(path: Path) -> Outcome | None:
    found = places.read(path)
    try:
        outcome = Outcome.from_dict(found)
        GangResult(outcome.result)
        if outcome.reason is not None:
            Reason.from_json(outcome.reason)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    fits = isinstance(outcome.ended_at, int) and isinstance(outcome.exit_code, int | None)
    return outcome if fits and isinstance(outcome.container, dict | None) else None
