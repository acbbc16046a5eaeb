"""Scenarios, figures, plots and made-up traces."""

from collections import Counter
from xml.etree import ElementTree

import pytest

from trainshed.scheduling.snapshot import NEVER
from trainshed.simulation.durations import milliseconds
from trainshed.simulation.generating import Shape, generate
from trainshed.simulation.measuring import Figures, Spread, jain, measure
from trainshed.simulation.playing import Played, play
from trainshed.simulation.plots import svg
from trainshed.simulation.scenario import Scenario, ScenarioError, extent
from trainshed.simulation.trace import DAY_MS, Trace, TraceJob

SECOND = 1000
#: Two nodes; the second job waits for both, the third fits before it if small ones may pass.
TRACE = Trace.of(
    [
        TraceJob(0, 100 * SECOND, 1, 100 * SECOND, "ann"),
        TraceJob(1 * SECOND, 50 * SECOND, 2, 50 * SECOND, "bob"),
        TraceJob(2 * SECOND, 20 * SECOND, 1, 20 * SECOND, "bob"),
    ]
)


def figures(scenario: Scenario, trace: Trace = TRACE) -> Figures:
    return measure(play(trace, scenario))


def test_the_figures_of_a_small_trace() -> None:
    found = figures(Scenario(2))
    assert found.endings == Counter(succeeded=3)
    assert (found.wait.mean, found.wait.median, found.wait.longest) == (33_000, 0, 99_000)
    assert found.completion.mean == pytest.approx((100 + 149 + 20) * SECOND / 3)
    assert found.slowdown.mean == pytest.approx((1 + 149 / 50 + 1) / 3)
    assert found.makespan == 150 * SECOND
    assert found.utilisation == pytest.approx((100 + 100 + 20) / 300)
    assert found.node_hours == pytest.approx(300 / 3600)
    assert (found.backfilled, found.late, found.preemptions, found.lost_attempts) == (1, 0, 0, 0)
    assert found.fair_waits == pytest.approx(0.5), "ann did not wait and bob did"


def test_without_backfill_the_small_one_waits() -> None:
    found = figures(Scenario(2).varied("backfill=off"))
    assert found.wait.longest == 148 * SECOND
    assert found.backfilled == 0


def test_jobs_that_never_start_are_counted() -> None:
    assert figures(Scenario(1)).never_started == 1


def test_limits_are_the_jobs_own_or_the_default() -> None:
    works = Trace.of([TraceJob(5, 9, 1), TraceJob(7, 9, 1, limit=3)]).works(default_limit=8)
    assert [(work.at, work.gang.limit) for work in works] == [(0, 8), (2, 3)]
    assert Trace.of([TraceJob(5, 9, 1)]).works(default_limit=None)[0].gang.limit == NEVER
    short = figures(Scenario(1).varied("limit=3s"), Trace.of([TraceJob(0, 9000, 1)]))
    assert short.endings == Counter({"time-limit": 1})
    assert short.wasted_hours == pytest.approx(3 / 3600)


def test_a_trace_can_be_submitted_faster() -> None:
    assert [job.submitted for job in TRACE.faster(2).jobs] == [0, 500, 1000]


def test_an_autoscaled_cluster_costs_less_and_makes_jobs_wait_for_nodes() -> None:
    trace = generate(Shape(jobs=200, nodes=16, load=0.4), seed=1)
    fixed, scaled = figures(Scenario(16), trace), figures(Scenario(16).varied("autoscale=0:16"), trace)
    assert scaled.node_hours < 0.95 * fixed.node_hours
    assert figures(Scenario(16).varied("autoscale=0:16,boot=1h"), trace).wait.mean > fixed.wait.mean
    assert scaled.used_hours == pytest.approx(fixed.used_hours)


def test_failures_cost_attempts_and_checkpoints_save_work() -> None:
    trace = generate(Shape(jobs=200, nodes=16, load=0.5), seed=1)
    anew = figures(Scenario(16).varied("faults=6h,seed=3"), trace)
    saved = figures(Scenario(16).varied("faults=6h,seed=3,checkpoint=1m"), trace)
    assert anew.lost_attempts > 10
    assert saved.wasted_hours < anew.wasted_hours
    assert figures(Scenario(16).varied("faults=6h,seed=3"), trace) == anew, "a seed gives the same course"


def test_fair_share_evens_out_what_a_greedy_user_does() -> None:
    greedy = [TraceJob(0, 600_000, 1, 600_000, "greedy") for _ in range(60)]
    modest = [TraceJob(1000 * n, 600_000, 1, 600_000, f"user{n}") for n in range(1, 6)]
    trace = Trace.of(greedy + modest)
    first_come, fair = figures(Scenario(4), trace), figures(Scenario(4).varied("fair-share=7d"), trace)
    assert fair.wait.median > 0
    assert fair.slowdown.mean < first_come.slowdown.mean * 1.05
    assert max(w for w in _waits(Scenario(4).varied("fair-share=7d"), trace, "user5")) < min(
        _waits(Scenario(4), trace, "user5")
    )


def _waits(scenario: Scenario, trace: Trace, user: str) -> list[int]:
    courses = play(trace, scenario).courses
    return [c.started - c.work.at for c in courses if c.started is not None and c.work.gang.owner.user == user]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("nodes", "not a change such as nodes=20; what can be changed: nodes, autoscale"),
        ("colour=red", "'colour=red' is not a change such"),
        ("nodes=0", "nodes: '0' is not a number from 1"),
        ("backfill=maybe", "backfill: 'maybe' is neither on nor off"),
        ("autoscale=5", "autoscale: '5' is not MIN:MAX"),
        ("autoscale=5:2", "autoscale: '5:2' is not MIN:MAX"),
        ("nodes=4,faults=0", "faults: it must be longer than zero"),
        ("grace=soon", "grace: 'soon' is not a duration"),
        ("speed=0", "speed: '0' is not a factor above 0"),
    ],
)
def test_changes_that_cannot_be_understood_are_named(changes: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        Scenario(4).varied(changes)
    assert said in str(error.value)


def test_changes_are_applied_together() -> None:
    varied = Scenario(4).varied("nodes=20,backfill=off,fair-share=P7D,checkpoint=0,faults=off")
    assert (varied.nodes, varied.backfill, varied.fair_share, varied.checkpoint) == (20, False, 7 * DAY_MS, 0)
    assert varied.faults is None
    assert extent("0:64") == (0, 64)
    assert [milliseconds(text) for text in ("90s", "15m", "2h", "1d", "P1D", "2.5", "1.00:00:00")] == [
        90_000, 900_000, 7_200_000, DAY_MS, DAY_MS, 2_500, DAY_MS
    ]  # fmt: skip


def test_quantiles_and_fairness() -> None:
    assert Spread.of([4, 1, 3, 2]) == Spread(2.5, 2.5, pytest.approx(3.7), pytest.approx(3.97), 4)
    assert Spread.of([]).mean == 0
    assert jain([1, 1, 1, 1]) == 1
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([]) == jain([0, 0]) == 1


def test_made_up_traces_have_the_shape_that_is_asked_for() -> None:
    shape = Shape(jobs=4000, nodes=128, days=2, load=0.8, users=10, urgent=0.1)
    trace = generate(shape, seed=5)
    assert trace == generate(shape, seed=5) != generate(shape, seed=6)
    assert len(trace.jobs) == 4000
    assert trace.work == pytest.approx(0.8 * 128 * 2 * DAY_MS, rel=0.01)
    assert trace.widest <= 128
    sizes = Counter(job.nodes for job in trace.jobs)
    powers = sum(count for size, count in sizes.items() if size & (size - 1) == 0)
    assert sizes[1] / 4000 > 0.2
    assert 0.55 < powers / 4000 < 0.95
    assert all(job.limit is not None and job.limit >= job.runtime for job in trace.jobs)
    assert sum(job.limit or 0 for job in trace.jobs) > 1.5 * sum(job.runtime for job in trace.jobs)
    by_hour = Counter(job.submitted // 3_600_000 % 24 for job in trace.jobs)
    assert sum(by_hour[hour] for hour in (13, 14, 15)) > 2 * sum(by_hour[hour] for hour in (1, 2, 3))
    users = Counter(job.user for job in trace.jobs)
    assert users["user1"] > 3 * users["user10"]
    assert 0.07 < sum(job.priority > 0 for job in trace.jobs) / 4000 < 0.13


def test_backfill_waits_a_third_less_and_delays_no_head() -> None:
    trace = generate(Shape(jobs=3000, nodes=64, load=0.7, days=3), seed=2)
    easy, strict = play(trace, Scenario(64)), play(trace, Scenario(64, backfill=False))
    assert measure(easy).wait.mean <= 0.7 * measure(strict).wait.mean
    promised = [course for course in easy.courses if course.promised is not None]
    assert len(promised) > 50
    for course in promised:
        assert course.started is not None and course.promised is not None
        assert course.started <= course.promised


def test_plots_are_a_picture_of_every_run() -> None:
    played: Played = play(TRACE, Scenario(2))
    page = svg([("as <given>", played), ("again", played)], "three & jobs")
    root = ElementTree.fromstring(page)
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    assert {"three & jobs", "as <given>", "Waiting jobs"} <= set(texts)
    lines = list(root.iter(f"{space}polyline"))
    assert len(lines) == 2 * 4
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width and 0 <= y <= height
