"""Each invariant's check catches a planted bug, by itself, within a few seeds."""

from __future__ import annotations

import pytest

from tests.simulation.invariants import CHECKS
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.world import World

#: Within so many seeds.
BOUND = 60

#: Checked elsewhere than in ``CHECKS``: by the machines, the reasons and the world.
OTHERS = {
    "every-wait-has-a-reason",
    "everything-ends",
    "no-attempt-runs-twice",
    "no-pass-fails",
    "nothing-left-behind",
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_caught(mutant: Mutant) -> None:
    with mutant.planted():
        for seed in range(BOUND):
            story = World(seed, mutant.profile(seed), only=mutant.invariant).run()
            if story.violation is not None:
                assert story.violation.invariant == mutant.invariant
                return
    pytest.fail(f"{BOUND} seeds do not show {mutant.name} to the check of {mutant.invariant}")


def test_every_check_has_a_planted_bug() -> None:
    assert {mutant.invariant for mutant in MUTANTS} == {*CHECKS, *OTHERS}
