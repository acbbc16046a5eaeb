"""Whether the service is to finish what runs, start nothing more, and leave. It holds for all its processes."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection

from trainshed.store import meta

_KEY = "drain"


@dataclass(frozen=True, slots=True)
class Drain:
    """The last request to drain: what tells it from others, and whether nothing ran any more."""

    id: str
    done: bool


def last(tx: Connection) -> Drain | None:
    """The last request; None when there was none, or it was taken back."""
    told = meta.get(tx, _KEY)
    if not told:
        return None
    value = json.loads(told)
    return Drain(str(value["id"]), bool(value["done"]))


def wanted(tx: Connection, known: str | None) -> Drain | None:
    """The request that holds for a process: nothing is started, and when it is done, the process leaves.

    ``known`` is the id of the request that was done before the process started.
    """
    drain = last(tx)
    return None if drain is None or (drain.done and drain.id == known) else drain


def under_way(tx: Connection) -> bool:
    """Whether what runs is being finished now."""
    drain = last(tx)
    return drain is not None and not drain.done


def known_at_start(tx: Connection) -> str | None:
    """What ``wanted`` is to be given by a process that starts now."""
    drain = last(tx)
    return drain.id if drain is not None and drain.done else None


def request(tx: Connection, id: str) -> Drain:
    """Start nothing from now on; one that is under way goes on."""
    drain = last(tx)
    return drain if drain is not None and not drain.done else _put(tx, Drain(id, done=False))


def finish(tx: Connection) -> None:
    """Nothing runs any more: processes that were there leave, and one that comes later starts jobs again."""
    drain = last(tx)
    if drain is not None and not drain.done:
        _put(tx, Drain(drain.id, done=True))


def take_back(tx: Connection) -> None:
    """Go on as usual."""
    if meta.get(tx, _KEY) is not None:
        meta.set(tx, _KEY, "")


def _put(tx: Connection, drain: Drain) -> Drain:
    meta.set(tx, _KEY, json.dumps({"id": drain.id, "done": drain.done}))
    return drain
