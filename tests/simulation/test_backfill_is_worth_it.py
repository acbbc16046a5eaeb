"""What backfill is worth on a trace with the shape of the archive's; ``make bench`` does so on longer ones."""

from __future__ import annotations

import pytest

from trainshed.simulation.generating import Shape, generate
from trainshed.simulation.measuring import measure
from trainshed.simulation.playing import play
from trainshed.simulation.scenario import Scenario
from trainshed.simulation.swf import read_swf, write_swf


@pytest.mark.parametrize("load", [0.6, 0.8])
def test_backfill_shortens_waits_by_far_and_delays_no_reserved_job(load: float) -> None:
    trace = read_swf(write_swf(generate(Shape(jobs=800, nodes=64, days=1, load=load), seed=5)))
    easy, strict = play(trace, Scenario(64)), play(trace, Scenario(64, backfill=False))
    reserved = [course for course in easy.courses if course.promised is not None]
    assert len(reserved) > 10, "somebody has to wait, or nothing is shown"
    for course in reserved:
        assert course.started is not None and course.promised is not None
        assert course.started <= course.promised, course
    assert measure(easy).backfilled > 100
    assert measure(easy).wait.mean <= 0.7 * measure(strict).wait.mean
