"""2026-11-01: a job's log files, each with whose output it is, on which node, and how long it is now."""

from __future__ import annotations

import asyncio
import os

from starlette.responses import Response

from trainshed.api import jobs as job_routes
from trainshed.api import outputs
from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.filetree import Entry, OutsideRoot, list_directory, open_file
from trainshed.resources import joblogs
from trainshed.resources.directories import RANKS, STDOUTERR, join
from trainshed.resources.joblogs import LogSource
from trainshed.resources.lifecycle import JOB
from trainshed.resources.times import format_time
from trainshed.resources.views import Json

#: Files that are listed, and bytes that are read of a node's own list. Jobs can write to the directories.
_MOST_FILES = 20_000
_LONGEST_LIST = 1 << 20


async def list_logs(call: Call) -> Response:
    """GET a job's log files in order of rank: name, stream, role, rank, node and size of each.

    ``complete`` says that the job had ended before the files were looked at: they do not grow any more. ``times`` names
    the log that tells how the file grew, in lines of Unix time in milliseconds, size and name.
    """
    key = call.job_key
    record = await call.read(lambda tx: job_routes.required(tx, call, key))
    directory = outputs.directory_of(call.services, record, STDOUTERR)
    views = await asyncio.to_thread(_look, directory)
    return answer({"value": views, "complete": record.execution in JOB.final})


def _look(directory: outputs.OutputDirectory) -> list[Json]:
    entries = {entry.name: entry for entry in _files(directory, "")}
    beside = {f"{RANKS}/{entry.name}": entry for entry in _files(directory, RANKS)}
    listed = [
        source
        for name, entry in beside.items()
        if entry.name.endswith(".json")
        for source in joblogs.read_list(entry.name, _text(directory, name))
    ]
    entries |= beside
    return [_view(source, entries) for source in joblogs.describe(entries, listed)]


def _files(directory: outputs.OutputDirectory, folder: str) -> list[Entry]:
    try:
        found = list_directory(directory.root, join(directory.path, folder), None, _MOST_FILES, directory.own)
    except OutsideRoot:
        return []
    return [entry for entry in found if not entry.is_directory]


def _text(directory: outputs.OutputDirectory, name: str) -> bytes:
    try:
        descriptor = open_file(directory.root, join(directory.path, name), directory.own)
    except OutsideRoot:
        return b""
    if descriptor is None:
        return b""
    try:
        return os.pread(descriptor, _LONGEST_LIST, 0)
    finally:
        os.close(descriptor)


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
