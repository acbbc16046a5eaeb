"""What workspaces, experiments and clusters share: a provisioning state that changes by its lifecycle."""

from __future__ import annotations

from sqlalchemy import Connection, Table, bindparam, delete, select, update

from trainshed.resources.lifecycle import PROVISIONING, ProvisioningEvent, ProvisioningState
from trainshed.store import events
from trainshed.store._statements import first, refused_as, rows_changed
from trainshed.store.errors import InUse, NotFound, StaleState


class Provisioned:
    """The statements for one table that has ``key``, ``state`` and ``state_at``."""

    def __init__(self, table: Table, kind: events.Kind) -> None:
        self._kind = kind
        self._state = select(table.c.state).where(table.c.key == bindparam("of"))
        self._update = (
            update(table)
            .where(table.c.key == bindparam("of"), table.c.state == bindparam("before"))
            .values(state=bindparam("after"), state_at=bindparam("now"))
        )
        self._delete = delete(table).where(table.c.key == bindparam("of"))

    def created(self, tx: Connection, key: str, state: ProvisioningState, now: int) -> None:
        """Log that the row was inserted."""
        events.append(
            tx,
            kind=self._kind,
            resource_key=key,
            event=events.CREATED,
            from_state=None,
            to_state=state.value,
            now=now,
        )

    def apply(self, tx: Connection, key: str, event: ProvisioningEvent, now: int) -> None:
        """Change the state as the lifecycle says and log it. Raises NotFound, ImpossibleTransition, StaleState."""
        row = first(tx, self._state, {"of": key})
        if row is None:
            raise NotFound(self._kind.value, key)
        before = ProvisioningState(row[0])
        after = PROVISIONING.after(before, event)
        parameters = {"of": key, "before": before.value, "after": after.value, "now": now}
        if rows_changed(tx, self._update, parameters) != 1:
            raise StaleState(f"{self._kind.value} {key} is no longer {before.value}")
        events.append(
            tx,
            kind=self._kind,
            resource_key=key,
            event=event.value,
            from_state=before.value,
            to_state=after.value,
            now=now,
        )

    def delete(self, tx: Connection, key: str) -> None:
        """Remove the row; its events stay. Raises NotFound, InUse while rows of other tables belong to it."""
        with refused_as(tx, lambda: InUse(f"{self._kind.value} {key} still has resources that belong to it")):
            changed = rows_changed(tx, self._delete, {"of": key})
        if changed == 0:
            raise NotFound(self._kind.value, key)
