"""Some of a job's logs as one, line by line: chosen by rank and node, from a time on, or by a regular expression."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Self

import click

from trainshed.cli import times
from trainshed.cli.logfiles import log_name
from trainshed.client.errors import NotFoundError

if TYPE_CHECKING:
    from trainshed.cli.session import Session
    from trainshed.client.merging import LogLine
    from trainshed.client.models import Log

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_NO_PROCESS = frozenset({"preparation", "service"})


@dataclass(frozen=True, slots=True)
class Filter:
    """Which logs, and which of their lines."""

    ranks: frozenset[int]
    every: bool
    node: str | None
    since: datetime | None
    grep: re.Pattern[bytes] | None
    file: str | None
    stream: str

    @classmethod
    def of(
        cls,
        *,
        ranks: tuple[int, ...] = (),
        every: bool = False,
        node: str | None = None,
        since: str | None = None,
        grep: str | None = None,
        file: str | None = None,
        stderr: bool = False,
    ) -> Self:
        """From what was written on the command line. Raises click.BadParameter."""
        try:
            pattern = None if grep is None else re.compile(grep.encode())
        except re.error as error:
            raise click.BadParameter(f"{grep!r} is no regular expression: {error}", param_hint="--grep") from error
        try:
            start = None if since is None else times.moment(since)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--since") from error
        stream = "stderr" if stderr else "stdout"
        return cls(frozenset(ranks), every, node, start, pattern, file, stream)

    @property
    def by_process(self) -> bool:
        """Whether it chooses among the job's processes; else it is about one file."""
        return self.every or bool(self.ranks) or self.node is not None

    @property
    def labelled(self) -> bool:
        """Whether lines of several logs can come, which must be told apart."""
        return self.by_process and len(self.ranks) != 1

    def wants(self, log: Log) -> bool:
        """Whether the log is one of those that ``by_process`` is about."""
        if log.stream != self.stream or log.role in _NO_PROCESS:
            return False
        # A launcher's log has all its ranks' output, which they have as well.
        if log.rank is None and (self.ranks or log.role == "master"):
            return False
        if self.ranks and log.rank not in self.ranks:
            return False
        return self.node is None or self.node in (log.node, log.node_id)


def show(session: Session, name: str, chosen: Filter, *, follow: bool, tail: int | None) -> None:
    """Print the lines. Raises NotFoundError when the job has, or had, no such log."""
    file = chosen.file
    if not chosen.by_process and file is None:
        file = log_name(session.client.jobs.get(name), stderr=chosen.stream == "stderr")
    found = False

    def wanted(log: Log) -> bool:
        nonlocal found
        is_wanted = log.name == file if file is not None else chosen.wants(log)
        found = found or is_wanted
        return is_wanted

    lines = session.client.jobs.log_lines(
        name, wanted, follow=follow, since=chosen.since, matching=chosen.grep, tail=tail
    )
    written = sys.stdout.buffer
    for line in lines:
        written.write((_prefix(line) if chosen.labelled else b"") + line.text + b"\n")
        written.flush()
    if not found:
        raise _nothing(session, name, chosen, file)


def _prefix(line: LogLine) -> bytes:
    text = f"[{line.log.label}]"
    if sys.stdout.isatty():
        text = click.style(text, fg=_COLOURS[(line.log.rank or 0) % len(_COLOURS)])
    return f"{text} ".encode()


def _nothing(session: Session, name: str, chosen: Filter, file: str | None) -> NotFoundError:
    logs = list(session.client.jobs.logs(name))
    if file is not None:
        message = f"job {name} has no {file}; it has {_some([log.name for log in logs])}"
    else:
        processes = [log for log in logs if log.stream == chosen.stream and log.role not in _NO_PROCESS]
        ranks = _some([str(log.rank) for log in processes if log.rank is not None])
        nodes = _some(sorted({log.node for log in processes if log.node}))
        message = f"job {name} has no such log; its ranks: {ranks}; its nodes: {nodes}"
    error = NotFoundError("LogFileNotFound", message, status=404)
    error.way_out = f"trainshed job show {name}"
    return error


def _some(found: list[str]) -> str:
    return ", ".join(islice(found, 20)) + (" ..." if len(found) > 20 else "") or "none yet"
