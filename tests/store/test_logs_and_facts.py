"""Operations, events, secrets, code snapshots and facts about the installation."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from tests.store.helpers import REASON
from trainshed.resources.lifecycle import ImpossibleTransition, OperationEvent, OperationState, OperationVerb
from trainshed.store import code, events, meta, operations, secrets
from trainshed.store.database import Database
from trainshed.store.errors import AlreadyExists, NotFound
from trainshed.store.records import OperationRecord

_OPERATION = OperationRecord(
    "o1", "s", "local", "s$g$w", OperationVerb.CREATE_JOB, "key", OperationState.IN_PROGRESS, 5
)


def test_an_operation_ends_once(db: Database) -> None:
    db.write_sync(lambda tx: operations.insert(tx, _OPERATION))
    with pytest.raises(AlreadyExists):
        db.write_sync(lambda tx: operations.insert(tx, _OPERATION))
    assert db.read_sync(operations.in_progress) == [_OPERATION]
    db.write_sync(lambda tx: operations.finish(tx, "o1", OperationEvent.FAILED, 9, REASON))
    ended = replace(_OPERATION, status=OperationState.FAILED, ended_at=9, error=REASON)
    assert db.read_sync(lambda tx: operations.get(tx, "o1")) == ended
    assert db.read_sync(operations.in_progress) == []
    with pytest.raises(ImpossibleTransition):
        db.write_sync(lambda tx: operations.finish(tx, "o1", OperationEvent.SUCCEEDED, 10))
    for call in (
        lambda tx: operations.get(tx, "none"),
        lambda tx: operations.finish(tx, "none", OperationEvent.FAILED, 1),
    ):
        with pytest.raises(NotFound):
            db.write_sync(call)


def test_operations_of_a_resource_end_together(db: Database) -> None:
    def fill(tx: Connection) -> None:
        operations.insert(tx, _OPERATION)
        operations.insert(tx, replace(_OPERATION, id="o2"))
        operations.insert(tx, replace(_OPERATION, id="other verb", verb=OperationVerb.DELETE_JOB))
        operations.insert(tx, replace(_OPERATION, id="other key", resource_key="key2"))
        operations.insert(tx, replace(_OPERATION, id="over", status=OperationState.FAILED, ended_at=6))

    db.write_sync(fill)

    def finish(tx: Connection) -> int:
        return operations.finish_for(tx, OperationVerb.CREATE_JOB, "key", OperationEvent.SUCCEEDED, 8)

    assert [db.write_sync(finish), db.write_sync(finish)] == [2, 0]
    assert [operation.id for operation in db.read_sync(operations.in_progress)] == ["other key", "other verb"]
    assert db.read_sync(lambda tx: operations.get(tx, "over")).status is OperationState.FAILED


def test_events_are_paged_in_order_and_told_apart(db: Database) -> None:
    def log(tx: Connection) -> None:
        for number in range(1, 6):
            events.append(
                tx,
                kind="job" if number % 2 else "attempt",
                resource_key="k" if number < 5 else "other",
                event=f"e{number}",
                from_state=None,
                to_state="queued",
                now=100 - number,
                reason=REASON if number == 1 else None,
                details={"n": number} if number == 1 else None,
            )

    db.write_sync(log)

    def names(**options: object) -> list[str]:
        return [event.event for event in db.read_sync(lambda tx: events.page(tx, resource_key="k", **options))]

    first, *_ = db.read_sync(lambda tx: events.page(tx, resource_key="k"))
    assert (first.at, first.reason, first.details, first.to_state) == (99, REASON, {"n": 1}, "queued")
    assert names() == ["e1", "e2", "e3", "e4"]
    assert names(kind="job") == ["e1", "e3"]
    assert names(limit=2) == ["e1", "e2"]
    assert names(after_seq=first.seq, limit=2) == ["e2", "e3"]
    assert names(since=97) == ["e1", "e2", "e3"]


def test_sealed_bytes_come_back_as_they_were(db: Database) -> None:
    sealed = {"/secrets/0": bytes(range(256)), "/credentials/accountKey": os.urandom(64), "/empty": b""}
    db.write_sync(lambda tx: secrets.put(tx, "u", sealed))
    assert db.read_sync(lambda tx: secrets.get(tx, "u")) == sealed
    assert db.read_sync(lambda tx: secrets.get(tx, "v")) == {}
    db.write_sync(lambda tx: secrets.put(tx, "u", {"/new": b"x"}))
    assert db.read_sync(lambda tx: secrets.get(tx, "u")) == {"/new": b"x"}
    db.write_sync(lambda tx: secrets.delete(tx, "u"))
    assert db.read_sync(lambda tx: secrets.get(tx, "u")) == {}


def test_a_snapshot_is_stored_once(db: Database) -> None:
    manifest = {"träin.py": {"sha256": "ab", "mode": 0o755}}
    for now in (1, 2):
        db.write_sync(lambda tx, now=now: code.put_snapshot(tx, 1, "id", manifest, now))
    assert db.read_sync(lambda tx: code.get_snapshot(tx, 1, "id")) == manifest
    assert db.read_sync(lambda tx: code.get_snapshot(tx, 1, "none")) is None


def test_facts_are_set_and_replaced(db: Database) -> None:
    assert db.read_sync(lambda tx: meta.get(tx, "a")) is None
    for value in ("1", "2"):
        db.write_sync(lambda tx, value=value: meta.set(tx, "a", value))
    assert db.read_sync(lambda tx: meta.get(tx, "a")) == "2"
