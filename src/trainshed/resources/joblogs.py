"""A job's log files: whose output each holds, and when it was written. Names and texts only; nothing here reads files.

Beside the contract's files (behaviour 6.3) ``stdouterr`` has a directory ``ranks``: under MPI and torchrun a pair of
files for each rank, and from each node a list of its files (``logs-N.json``) and their sizes over time
(``times-N.txt``). torchrun decides late which ranks are where: the node adds a list for each (``logs-N-RANK.json``).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from trainshed.resources.directories import RANKS

#: Seconds between two looks at the sizes of the files: how exact a line's time is.
INTERVAL = 0.2

_NAME = re.compile(r"(stdout|stderr)(?:-(wk|ps|job_prep)(?:-(.+))?|-(\d{1,9}))?\.txt")
_LIST = re.compile(r"logs-(\d{1,9})(?:-\d{1,9})?\.json")
_TEXT = 256


@dataclass(frozen=True, slots=True)
class LogSource:
    """Whose output a file is. ``name`` is relative to ``stdouterr``."""

    name: str
    #: ``stdout``, ``stderr``, or ``service`` for what the service says of the job.
    stream: str
    #: ``rank``, ``master``, ``worker``, ``ps``, ``preparation``, ``service`` ...
    role: str
    #: Which of its role.
    index: int = 0
    #: Its number among all; None for what is no rank, such as a launcher or a parameter server.
    rank: int | None = None
    #: Host name and id of the node; empty when unknown.
    node: str = ""
    node_id: str = ""
    #: Name of the file that has its sizes over time; empty when there is none.
    times: str = ""


def list_file(node_index: int, rank: int | None = None) -> str:
    """The file in which a node says which logs it writes, or which are those of a rank that it learnt of later."""
    return f"{RANKS}/logs-{node_index}{'' if rank is None else f'-{rank}'}.json"


def times_file(node_index: int) -> str:
    """The file to which a node appends ``TIME SIZE NAME`` when a log has grown; time in Unix milliseconds."""
    return f"{RANKS}/times-{node_index}.txt"


def list_text(sources: Iterable[LogSource]) -> str:
    """The contents of a node's list."""
    rows = [
        {"name": s.name, "stream": s.stream, "role": s.role, "index": s.index, "rank": s.rank, "node": s.node,
         "nodeId": s.node_id}
        for s in sources
    ]  # fmt: skip
    return json.dumps({"logs": rows}, separators=(",", ":"))


def read_list(file_name: str, text: bytes) -> list[LogSource]:
    """What a node's list says. A job can write there too: whatever is not understood is left out."""
    matched = _LIST.fullmatch(file_name)
    try:
        rows = json.loads(text)["logs"]
        return [_source(row, times_file(int(matched[1])) if matched else "") for row in rows]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def by_name(name: str) -> LogSource | None:
    """What the name alone says of a file of ``stdouterr``; None when it is no log."""
    if name.startswith("execution") and name.endswith(".log"):
        return LogSource(name, "service", "service", node=name[len("execution") : -len(".log")].lstrip("-"))
    folder, _, file = name.rpartition("/")
    matched = _NAME.fullmatch(file)
    if matched is None or folder not in ("", RANKS):
        return None
    stream, kind, tail, number = matched.groups()
    if number is not None:
        return LogSource(name, stream, "rank", int(number), int(number))
    if folder:
        return None
    if kind is None:
        # A job with several ranks lists its logs; one that does not is its only rank.
        return LogSource(name, stream, "master", 0, 0)
    if kind == "job_prep":
        return LogSource(name, stream, "preparation", node=tail or "")
    if tail is None or not tail.isdecimal() or len(tail) > 9:
        return None
    index = int(tail)
    return LogSource(name, stream, "worker", index, index) if kind == "wk" else LogSource(name, stream, "ps", index)


def describe(names: Iterable[str], listed: Iterable[LogSource]) -> list[LogSource]:
    """All logs among these names, in order of rank; the nodes' own lists know more than names do."""
    known = {source.name: source for source in listed}
    found = [source for name in names if (source := by_name(name)) is not None]
    found = [known.get(source.name, source) for source in found]
    return sorted(found, key=lambda s: (s.rank is None, s.rank or 0, s.role, s.index, s.stream != "stdout", s.name))


class LogTimes:
    """When which byte of a file was there, told by its sizes over time (a ``times-N.txt``, fed as it grows)."""

    def __init__(self) -> None:
        self._rest = b""
        self._times: dict[str, list[int]] = defaultdict(list)
        self._sizes: dict[str, list[int]] = defaultdict(list)

    def feed(self, text: bytes) -> None:
        """The next bytes of the file."""
        *lines, self._rest = (self._rest + text).split(b"\n")
        for line in lines:
            parts = line.decode("utf-8", "replace").split(" ", 2)
            if len(parts) == 3 and parts[0].isdecimal() and parts[1].isdecimal() and len(line) < 512:
                self._add(parts[2], int(parts[0]), int(parts[1]))

    def when(self, name: str, size: int) -> int | None:
        """The Unix time in ms at which the file first was seen with so many bytes; None if it was not yet."""
        at = bisect_left(self._sizes[name], size)
        return self._times[name][at] if at < len(self._sizes[name]) else None

    def size_before(self, name: str, time: int) -> int:
        """How many bytes the file certainly had before that time."""
        at = bisect_left(self._times[name], time)
        return self._sizes[name][at - 1] if at else 0

    def _add(self, name: str, time: int, size: int) -> None:
        sizes, times = self._sizes[name], self._times[name]
        # Both only grow: what a clock that was set back, or a job, wrote otherwise is not used.
        if not sizes or (size > sizes[-1] and time >= times[-1]):
            sizes.append(size)
            times.append(time)


def _source(row: dict[str, Any], times: str) -> LogSource:
    rank = row["rank"]
    if row["stream"] not in ("stdout", "stderr"):
        raise ValueError(row["stream"])
    source = LogSource(
        str(row["name"])[:_TEXT], row["stream"], str(row["role"])[:_TEXT], int(row["index"]),
        None if rank is None else int(rank), str(row["node"])[:_TEXT], str(row["nodeId"])[:_TEXT],
    )  # fmt: skip
    return replace(source, times=times)
