"""Who controls, as every transaction sees it, and what refuses the writes of a controller that was superseded.

Several processes on one PostgreSQL agree on one controller by a row with a token that only grows. A controller's
transaction locks that row in the mode in which foreign keys do (``FOR KEY SHARE``): a take-over, which changes the
token, waits for it; a renewal does not. So a transaction that found its token current is over before anybody else
controls, also when its process was frozen in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from trainshed.store._statements import first
from trainshed.store.errors import StaleLeader

#: Unix milliseconds by the database's clock, at the moment it is evaluated: the processes' own clocks don't count.
NOW = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)"
#: Milliseconds for which who leads is still believed to after the lease ended: somebody is just taking over.
_TAKING_OVER_MS = 1_000

#: What a listener is told whenever it is connected (again), for something may have been missed; and when the lease was
#: given back.
CONNECTED, RELEASED = "connected", "released"

#: Names the token for the rest of the transaction, for the triggers on what only a controller writes.
_FENCE = text(
    "SELECT set_config('trainshed.leader', CAST(token AS text), true) FROM leadership "
    "WHERE token = CAST(:token AS bigint) AND holder <> '' FOR KEY SHARE"
)
_CURRENT = text(
    "SELECT token, holder, name, acquired_at, renewed_at, expires_at, engine_available, "
    f"{NOW} FROM leadership WHERE id = 1"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """The lease is this process's, under this token."""

    token: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Another process holds the lease, for this many seconds unless it renews it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The lease as a transaction found it. Times are the database's, in Unix ms."""

    token: int
    #: Names the process for other processes; empty when nobody holds the lease.
    holder: str
    #: Names it for people.
    name: str
    acquired_at: int
    renewed_at: int
    expires_at: int
    #: Whether the leader reached its engine when it last renewed.
    engine_available: bool
    now: int

    @property
    def held(self) -> bool:
        """Whether somebody controls."""
        return self.holder != "" and self.now < self.expires_at + _TAKING_OVER_MS


def current(tx: Connection) -> LeaseRecord | None:
    """The lease; None where nobody ever held it. PostgreSQL only."""
    row = first(tx, _CURRENT, {})
    if row is None:
        return None
    token, holder, name, acquired_at, renewed_at, expires_at, engine_available, now = row
    return LeaseRecord(token, holder, name, acquired_at, renewed_at, expires_at, bool(engine_available), now)


def fence(tx: Connection, token: int) -> None:
    """Nobody else controls until this transaction ends. Raises StaleLeader when somebody does already."""
    if first(tx, _FENCE, {"token": token}) is None:
        raise StaleLeader(token)
