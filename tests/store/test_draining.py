"""A request to drain: asked for, done, known by those who come later, taken back."""

from __future__ import annotations

from trainshed.store import draining
from trainshed.store.database import Database
from trainshed.store.draining import Drain


def test_it_holds_until_it_is_done_and_longer_for_those_that_were_there(db: Database) -> None:
    known = db.write_sync(draining.known_at_start)
    assert known is None
    assert db.read_sync(lambda tx: draining.wanted(tx, known)) is None
    assert db.write_sync(lambda tx: draining.request(tx, "a")) == Drain("a", done=False)
    # Asked for again while it goes on, it is the same.
    assert db.write_sync(lambda tx: draining.request(tx, "b")) == Drain("a", done=False)
    assert db.read_sync(draining.under_way)
    db.write_sync(draining.finish)
    assert db.read_sync(lambda tx: draining.wanted(tx, known)) == Drain("a", done=True)
    assert not db.read_sync(draining.under_way)
    later = db.read_sync(draining.known_at_start)
    assert db.read_sync(lambda tx: draining.wanted(tx, later)) is None
    assert db.write_sync(lambda tx: draining.request(tx, "b")) == Drain("b", done=False)
    assert db.read_sync(lambda tx: draining.wanted(tx, later)) == Drain("b", done=False)


def test_taken_back_it_holds_for_nobody(db: Database) -> None:
    db.write_sync(draining.take_back)
    db.write_sync(lambda tx: draining.request(tx, "a"))
    db.write_sync(draining.take_back)
    assert db.read_sync(draining.last) is None
    db.write_sync(draining.finish)
    assert db.read_sync(draining.last) is None
