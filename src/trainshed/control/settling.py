"""Gangs that have ended, as their engines tell: settled, and then forgotten, taken up again or dropped."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from trainshed.control.actions import Actions, StopGang
from trainshed.control.handing import take_up
from trainshed.control.mirroring import mirror_gang
from trainshed.control.outcomes import settle
from trainshed.control.settings import ControlSettings
from trainshed.engines.protocol import GangStatus
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import attempts
from trainshed.store.errors import or_none

_NOT_AGAIN = Reason(ReasonCode.DELETED_BY_USER, "The job is not to run again now.")


def settle_gangs(
    tx: Connection, ended: Sequence[GangStatus], actions: Actions, settings: ControlSettings, now: int
) -> None:
    """Apply final statuses; again changes nothing. ``let_go_or_take_up`` tells the engine what follows."""
    for status in ended:
        attempt = or_none(attempts.get, tx, status.attempt_id)
        if attempt is not None and attempt.waiting is not None and attempt.ended_at is None:
            actions.released |= mirror_gang(tx, attempt, status, now)
        actions.wake_at(settle(tx, status, now, settings.losses))


def let_go_or_take_up(
    tx: Connection,
    ended: Sequence[GangStatus],
    actions: Actions,
    settings: ControlSettings,
    now: int,
    *,
    draining: bool,
) -> None:
    """Have the engine forget gangs that are settled, unless it queued them again and they may run again.

    After everything else that the engine said is recorded: whether a limit lets them run depends on it.
    """
    for status in ended:
        if status.again and not take_up(tx, actions, status, settings, now, draining=draining):
            # Not forgotten before the engine has dropped what it queued: it is asked until it has.
            actions.stops.append(StopGang(status.attempt_id, _NOT_AGAIN))
        else:
            actions.forget.append(status.attempt_id)
