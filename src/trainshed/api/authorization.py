"""Whether the caller may: each endpoint names an action, its path the scope.

The answer comes before anything is looked up, so that a refusal is the same whether or not the resource exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

from trainshed.api.errors import ApiError
from trainshed.identity import Caller, Scope

T = TypeVar("T")

#: Action of what is open to everybody who reaches the port: it holds no secrets, or is signed.
OPEN = "*open*"


class Reach(StrEnum):
    """Where the caller must be allowed the action."""

    #: At the scope that the path names.
    SCOPE = "scope"
    #: There or anywhere in it; the handler then shows only what the caller may see.
    WITHIN = "within"


def refused(caller: Caller, action: str, scope: Scope) -> ApiError:
    """403 in Azure's words: who, what and where, and nothing of what is there."""
    limited = " The token that was shown is limited to less than its owner may." if caller.limit is not None else ""
    return ApiError(
        403,
        "AuthorizationFailed",
        f"The client '{caller.name}' with object id '{caller.id}' does not have authorization to perform action "
        f"'{action}' over scope '{scope}' or the scope is invalid.{limited} An Owner of the scope can give the role "
        "that is needed (trainshed role assign).",
    )


def require(caller: Caller, action: str, scope: Scope) -> None:
    """Raises ApiError 403 unless the caller may do this there."""
    if not caller.may(action, scope.key):
        raise refused(caller, action, scope)


def require_within(caller: Caller, action: str, scope: Scope) -> None:
    """Raises ApiError 403 unless the caller may do this there or somewhere in it."""
    if not caller.may_somewhere_in(action, scope.key):
        raise refused(caller, action, scope)


def visible(
    fetch: Callable[[str | None], Sequence[T]],
    place: Callable[[T], str],
    sees: Callable[[T], bool],
    after: str | None,
    limit: int,
) -> list[T]:
    """Up to ``limit`` entries of a list that the caller may see, after the place ``after``.

    ``fetch`` gives the entries after a place, up to as many as fit a page; ``place`` is where the next ones begin.
    """
    found: list[T] = []
    while rows := fetch(after):
        found += [row for row in rows if sees(row)]
        if len(found) >= limit:
            break
        after = place(rows[-1])
    return found[:limit]
