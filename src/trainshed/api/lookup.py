"""Asking the store for what may be absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from trainshed.store.errors import NotFound

K = TypeVar("K")
T = TypeVar("T")


def find(get: Callable[[Connection, K], T], tx: Connection, key: K) -> T | None:
    """What ``get`` finds under the key, or None."""
    try:
        return get(tx, key)
    except NotFound:
        return None
