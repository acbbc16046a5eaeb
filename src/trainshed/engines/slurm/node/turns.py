"""Which tickets a job of Slurm's carries out: its own, and then others like it that wait.

A job that does nothing costs Slurm some fifty milliseconds and its node the start of Python. So a job of one node whose
ticket has succeeded takes the oldest one that wants the same of Slurm and has not begun, again and again for a few
seconds. Whoever makes the file ``claimed`` has a ticket. A ticket's own job finds it taken then and takes another, or
ends.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import NOBODY, Places, Submission, Ticket

#: Seconds from a job's start within which it takes tickets: then Slurm decides anew who is next. Far less than Slurm
#: needs to find a node dead and to start the job elsewhere: by then the run that is cut off takes nothing more.
TAKING_SECONDS = 10.0
#: Seconds for which one of many stays for the next that the service may be writing down, and between two looks.
_STAY_SECONDS, _STAY_LOOK = 0.3, 0.05


class Turns:
    """The tickets of one job of Slurm's. Methods raise OSError."""

    def __init__(self, folder: Path, slurm: dict[str, str]) -> None:
        """``folder``: what the job's comment names."""
        self.job = job_of(slurm)
        self.run = int(slurm.get("SLURM_RESTART_COUNT") or 0)
        self._begun = time.monotonic()
        self._root = Places(folder.parent.parent)
        self._submission = Submission(folder)
        self._many = places.is_array(folder.name)
        self._own, self._alike = self._given(slurm)

    def first(self) -> Ticket | None:
        """What this run begins with; None when there is nothing for it."""
        if self._own is None or not self._submission.folder.is_dir():
            return None  # The engine has given all of it up.
        new = places.claim(self._submission.carried(self.job), self.job, self._own)
        if self.run:
            return self._again(new=new)
        # When the file was there the service has made it: the job is not wanted any more.
        with suppress(FileNotFoundError):
            return (self._take(self._own) or self._next()) if new else None
        return None

    def following(self) -> Ticket | None:
        """The next one, after one that has succeeded and that nobody wanted to end."""
        until = time.monotonic() + (_STAY_SECONDS if self._many else 0.0)
        while not self.run and time.monotonic() - self._begun < TAKING_SECONDS:
            if (ticket := self._next()) is not None:
                self._many = True
                return ticket
            if time.monotonic() > until:
                break
            time.sleep(_STAY_LOOK)
        return None

    def begins(self, order: dict[str, Any]) -> None:
        """The order of the ticket is known: it waits no more, and what is alike is taken after it."""
        self._alike = order["alike"]
        if order["entry"]:
            (self._root.waiting / self._alike / order["entry"]).unlink(missing_ok=True)

    def still(self, ticket: Ticket) -> Ticket:
        """What a run that waits for its order carries out: the run before may have gone on to it only now."""
        return self._again(new=False) or ticket

    def _given(self, slurm: dict[str, str]) -> tuple[str | None, str]:
        """The own ticket, and what it is alike."""
        if places.is_array(self._submission.folder.name):
            elements = places.read(self._submission.elements)
            if elements is None:
                return None, ""
            return elements["tickets"][int(slurm["SLURM_ARRAY_TASK_ID"])], elements["alike"]
        order = places.read(Ticket(self._submission.folder).order(0)) or {"alike": ""}
        return self._submission.folder.name, order["alike"]

    def _again(self, *, new: bool) -> Ticket | None:
        carried = places.claimant(self._submission.carried(self.job))
        if NOBODY in carried or not carried[1]:
            return None
        ticket = self._root.ticket(carried[1])
        if new and places.claim(ticket.claim, self.job, self._submission.folder.name):
            return ticket  # The run before did not come so far.
        return ticket if places.claimant(ticket.claim)[0] == self.job else None

    def _next(self) -> Ticket | None:
        """The oldest that waits; None too when the engine has given this job up: others take those that wait."""
        if not self._alike:
            return None
        folder = self._root.waiting / self._alike
        with suppress(FileNotFoundError):
            for entry in sorted(os.listdir(folder)):  # noqa: PTH208 - the listing is what asks the server
                if (ticket := self._take(entry.partition("-")[2])) is not None:
                    return ticket
                (folder / entry).unlink(missing_ok=True)
        return None

    def _take(self, name: str) -> Ticket | None:
        """The ticket, unless somebody has it. What is to be carried out is written down before, for a later run.

        Raises FileNotFoundError when this job has been given up.
        """
        ticket = self._root.ticket(name)
        if not ticket.claim.exists():
            places.write(self._submission.carried(self.job), {"job": self.job, "of": name})
            with suppress(FileNotFoundError):  # The ticket has been given up: its folder is gone.
                if places.claim(ticket.claim, self.job, self._submission.folder.name):
                    return ticket
        return None


def job_of(slurm: dict[str, str]) -> str:
    """A job's number as Slurm's commands show it: that of an array with the element's index."""
    if "SLURM_ARRAY_JOB_ID" in slurm and "SLURM_ARRAY_TASK_ID" in slurm:
        return f"{slurm['SLURM_ARRAY_JOB_ID']}_{slurm['SLURM_ARRAY_TASK_ID']}"
    return slurm["SLURM_JOB_ID"]
