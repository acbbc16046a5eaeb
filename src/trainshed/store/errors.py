"""What the store can refuse, and what can happen to the database itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
K = TypeVar("K")


class StoreError(Exception):
    """Base of everything that the store raises on purpose."""


class NotFound(StoreError):
    """The row named does not exist."""

    def __init__(self, noun: str, key: object) -> None:
        super().__init__(f"there is no {noun} {key}")
        self.noun = noun
        self.key = str(key)


def or_none(get: Callable[[Connection, K], T], tx: Connection, key: K) -> T | None:
    """What ``get(tx, key)`` finds, or None where it raises NotFound."""
    try:
        return get(tx, key)
    except NotFound:
        return None


class AlreadyExists(StoreError):
    """A row of that name or id exists already."""

    def __init__(self, noun: str, key: object) -> None:
        super().__init__(f"{noun} {key} exists already")
        self.noun = noun
        self.key = str(key)


class StaleState(StoreError):
    """The row is no longer in the state that the caller assumed: read it again and decide anew."""


class InUse(StoreError):
    """The row cannot go while others belong to it: delete those first."""


class StaleLeader(StoreError):
    """Another process controls now: nothing of what this one decided is stored."""

    def __init__(self, token: int) -> None:
        super().__init__(f"the lease with token {token} is over: another process controls, or is about to")
        self.token = token


class StoreUnavailable(StoreError):
    """The database could not be reached, or did not take the change; nothing of the change is stored."""


class StoreClosed(StoreError):
    """The database was closed before this was carried out."""

    def __init__(self) -> None:
        super().__init__("the database is closed: the service is stopping")


class SchemaMismatch(StoreError):
    """The database's schema is not one that this version can bring up to date."""
