"""How much nodes may take of a machine."""

from __future__ import annotations

import pytest

from trainshed.engines.local.capacity import OVERSUBSCRIPTION_VARIABLE, CapacityError, Machine

MACHINE = Machine(cpus=4, gpus=("GPU-a", "GPU-b", "GPU-c"), oversubscription=2.0)


def test_cpus_may_be_promised_more_than_once() -> None:
    assert MACHINE.reserve(2, 4, 0, [], []) == [(), ()]


def test_but_not_beyond_the_limit() -> None:
    with pytest.raises(CapacityError) as refusal:
        MACHINE.reserve(2, 4, 0, [1], [])
    text = str(refusal.value)
    assert "9 cores" in text
    assert "more than 8" in text
    assert OVERSUBSCRIPTION_VARIABLE in text


def test_gpus_are_given_to_one_node_each() -> None:
    assert MACHINE.reserve(2, 1, 1, [], ["GPU-b"]) == [("GPU-a",), ("GPU-c",)]
    assert MACHINE.reserve(1, 1, 3, [], []) == [("GPU-a", "GPU-b", "GPU-c")]


def test_gpus_are_never_promised_twice() -> None:
    with pytest.raises(CapacityError, match="2 free of 3"):
        MACHINE.reserve(1, 1, 3, [], ["GPU-a"])


def test_no_node_more_is_always_possible() -> None:
    assert MACHINE.reserve(0, 4, 0, [100], []) == []


@pytest.mark.parametrize(("said", "meant"), [("3.5", 3.5), ("nonsense", 8.0), ("-1", 0.0), (None, 8.0)])
def test_the_limit_comes_from_the_environment(said: str | None, meant: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if said is None:
        monkeypatch.delenv(OVERSUBSCRIPTION_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(OVERSUBSCRIPTION_VARIABLE, said)
    assert Machine.here().oversubscription == meant
