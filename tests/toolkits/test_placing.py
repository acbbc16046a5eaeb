"""Spreading processes over hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.toolkits import PlanError
from trainshed.toolkits.placing import Place, places, process_count, spread


@pytest.mark.parametrize(
    ("count", "hosts", "slots"),
    [(2, 2, (1, 1)), (8, 2, (4, 4)), (1, 2, (1, 0)), (3, 2, (2, 1)), (5, 3, (2, 2, 1)), (1, 1, (1,))],
)
def test_equal_counts_first_hosts_first(count: int, hosts: int, slots: tuple[int, ...]) -> None:
    assert spread(count, hosts) == slots


@given(st.integers(1, 500), st.integers(1, 100))
def test_nothing_is_lost_and_no_host_has_two_more_than_another(count: int, hosts: int) -> None:
    slots = spread(count, hosts)
    assert len(slots) == hosts and sum(slots) == count and max(slots) - min(slots) <= 1


@given(st.integers(1, 60), st.integers(1, 10))
def test_ranks_fill_hosts_in_order(count: int, hosts: int) -> None:
    slots = spread(count, hosts)
    taken = places(slots)
    assert [place.rank for place in taken] == list(range(count))
    assert [place.host for place in taken] == sorted(place.host for place in taken)
    assert all(place.local_size == slots[place.host] > place.local_rank for place in taken)


def test_places_of_three_ranks_on_two_hosts() -> None:
    assert places((2, 1)) == [Place(0, 0, 0, 2), Place(1, 0, 1, 2), Place(2, 1, 0, 1)]


def test_process_count_defaults_to_the_hosts() -> None:
    assert process_count({}, 3) == 3
    assert process_count({"processCount": 8}, 3) == 8


@pytest.mark.parametrize(("count", "hosts"), [(0, 1), (1, 0)])
def test_nothing_cannot_be_spread(count: int, hosts: int) -> None:
    with pytest.raises(PlanError, match="at least 1"):
        spread(count, hosts)
