"""Making default parents that are missing: a fresh service has no workspace and no experiment yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from trainshed.client.errors import NotFoundError

if TYPE_CHECKING:
    from trainshed.cli.session import Session

T = TypeVar("T")


def with_parents(session: Session, create: Callable[[], T], *, experiment: bool = False) -> T:
    """``create()``; if its parents are missing and nobody named them, they are made first, and told.

    A workspace or experiment that the user did name is not made in passing: it may be a slip of the pen.
    """
    try:
        return create()
    except NotFoundError:
        if not make_missing(session, experiment=experiment, even_named=False):
            raise
        return create()


def make_missing(session: Session, *, experiment: bool, even_named: bool) -> bool:
    """Make the workspace, and the experiment if asked; whether anything was made."""
    made = False
    for kind in ("workspace", "experiment") if experiment else ("workspace",):
        if kind in session.named and not even_named:
            continue
        noun = session.client.workspaces if kind == "workspace" else session.client.experiments
        try:
            noun.get()
        except NotFoundError:
            if kind == "experiment" and not made and not _workspace_is_there(session):
                return made
            created = noun.create()
            session.note(f"made the {kind} {created.name}")
            made = True
    return made


def _workspace_is_there(session: Session) -> bool:
    try:
        session.client.workspaces.get()
    except NotFoundError:
        return False
    return True
