"""Two thousand seeds, every time the same ones: a seed that fails here fails on every machine."""

from __future__ import annotations

import pytest

from tests.simulation import many

SEEDS = 2000
#: Seeds of one test, so that several processes share the work.
PART = 50
#: So many of the first seeds reach every step of every lifecycle and every fault.
REACH = 800
#: Of longer runs, those that found something once: limits that an engine's requeue passed by, and checks that did not
#: know of a job that began or was terminated and was deleted in one transaction.
FOUND_ONCE = (347387, 360009, 367991, 393313, 417803, 425313, 429991)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(REACH, SEEDS, PART))
def test_invariants_hold(first: int) -> None:
    results = many.run(range(first, first + PART))
    assert not results.failures, _advice(results)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_seeds_reach_everything() -> None:
    results = many.run(range(REACH))
    assert not results.failures, _advice(results)
    assert results.not_reached == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", FOUND_ONCE)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    results = many.run(range(seed, seed + 1))
    assert not results.failures, _advice(results)


def _advice(results: many.Results) -> str:
    seed, _, text = results.failures[0]
    return f"{text}\nSee it with: .venv/bin/python -m tests.simulation --seed {seed} --trace"
