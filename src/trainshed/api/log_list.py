"""2026-11-01: a job's log files, each with whose output it is, on which node, and how long it is now."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from trainshed.api import outputs
from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.resources import joblogs
from trainshed.resources.directories import RANKS, STDOUTERR
from trainshed.resources.joblogs import LogSource
from trainshed.resources.lifecycle import JOB
from trainshed.resources.times import format_time
from trainshed.resources.views import Json
from trainshed.volumes.reading import Entry, OutsideRoot, Reader, Unreadable

#: Files that are listed, and bytes that are read of a node's own list. Jobs can write to the directories.
_MOST_FILES = 20_000
_LONGEST_LIST = 1 << 20


async def list_logs(call: Call) -> Response:
    """GET a job's log files in order of rank: name, stream, role, rank, node and size of each.

    ``complete`` says that the job had ended before the files were looked at: they do not grow any more. ``times`` names
    the log that tells how the file grew, in lines of Unix time in milliseconds, size and name.
    """
    key = call.job_key
    record, place = await call.read(lambda tx: outputs.of_job(tx, call, key, STDOUTERR))
    reader = await outputs.reader_of(call, place)
    try:
        views = await asyncio.to_thread(_look, reader)
    except Unreadable as error:
        raise outputs.not_readable(STDOUTERR, str(error)) from None
    return answer({"value": views, "complete": record.execution in JOB.final})


def _look(reader: Reader) -> list[Json]:
    entries = {entry.name: entry for entry in _files(reader, "")}
    beside = {f"{RANKS}/{entry.name}": entry for entry in _files(reader, RANKS)}
    listed = [
        source
        for name, entry in beside.items()
        if entry.name.endswith(".json")
        for source in joblogs.read_list(entry.name, _text(reader, name))
    ]
    entries |= beside
    return [_view(source, entries) for source in joblogs.describe(entries, listed)]


def _files(reader: Reader, folder: str) -> list[Entry]:
    try:
        found = reader.list(folder, None, _MOST_FILES)
    except OutsideRoot:
        return []
    return [entry for entry in found if not entry.is_directory]


def _text(reader: Reader, name: str) -> bytes:
    try:
        file = reader.open(name)
    except OutsideRoot:
        return b""
    if file is None:
        return b""
    try:
        return file.read(0, _LONGEST_LIST)
    finally:
        file.close()


def _view(source: LogSource, entries: dict[str, Entry]) -> Json:
    entry = entries[source.name]
    view: Json = {
        "name": source.name,
        "stream": source.stream,
        "role": source.role,
        "index": source.index,
        "size": entry.size,
        "lastModified": format_time(entry.modified_at),
    }
    if source.rank is not None:
        view["rank"] = source.rank
    if source.node:
        view["node"] = source.node
    if source.node_id:
        view["nodeId"] = source.node_id
    if source.times in entries:
        view["times"] = source.times
        view["timesSize"] = entries[source.times].size
    return view
