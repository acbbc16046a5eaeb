"""``trainshed job explain``: what people read when they ask why their job waits, in every situation there is.

The whole service, with a clock that stands still; the texts are in ``snapshots/explain``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.api.callers import make_caller
from tests.api.service import EXPERIMENT, NEW, WS
from tests.cli.conftest import Run
from tests.support.snapshots import Snapshots
from tests.support.whole_service import HOUR, MINUTE, WholeService, whole_service
from trainshed.cli import times
from trainshed.engines.protocol import GangResult, NodeCondition
from trainshed.resources.lifecycle import JobState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import draining
from trainshed.store.backend import backend_of
from trainshed.store.migrate import upgrade

pytestmark = pytest.mark.slow

#: 2026-11-21T12:00:00Z
NOON = 1_795_262_400_000


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("explain") / "trainshed.db"
    upgrade(backend_of(f"sqlite:///{path}"))
    return path


@pytest.fixture
def shed(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WholeService]:
    """A service that the command line finds; both have the time that the test sets."""
    with whole_service(migrated, tmp_path / "home") as whole:
        whole.clock.now = NOON

        class Standing(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Any:
                return cls.fromtimestamp(whole.clock.now / 1000, tz)

        monkeypatch.setattr(times, "datetime", Standing)
        # What a service logs goes elsewhere.
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        monkeypatch.setenv("TRAINSHED_URL", whole.url)
        monkeypatch.setenv("TRAINSHED_TOKEN", whole.service.tokens.admin)
        monkeypatch.setenv("TRAINSHED_SUBSCRIPTION", "sub")
        monkeypatch.setenv("TRAINSHED_RESOURCE_GROUP", "Group")
        monkeypatch.setenv("TRAINSHED_WORKSPACE", "ws")
        monkeypatch.setenv("TRAINSHED_EXPERIMENT", "exp")
        yield whole
    structlog.reset_defaults()


@pytest.fixture
def snapshots(request: pytest.FixtureRequest) -> Snapshots:
    folder = Path(__file__).parent / "snapshots" / "explain"
    return Snapshots(folder, update=request.config.getoption("--update-snapshots"))


Situation = Callable[[WholeService], None]
SITUATIONS: dict[str, Situation] = {}


def situation(make: Situation) -> Situation:
    """Registers a situation in which the job ``train`` waits; the name of its function is that of the snapshot."""
    SITUATIONS[make.__name__] = make
    return make


def limits(shed: WholeService, *rules: dict[str, Any]) -> None:
    shed.put(f"{WS}/schedulingRules", {"properties": {"limits": list(rules)}})


def people(shed: WholeService, *names: str) -> list[str]:
    """Tokens of people who may submit jobs."""
    return [make_caller(shed.service, name, ("Contributor", WS)) for name in names]


def ends(shed: WholeService, job: str, result: GangResult = GangResult.SUCCEEDED, exit_code: int = 0) -> None:
    """A running job ends now."""
    attempt = shed.attempt_of(job)
    assert attempt is not None
    failed = Reason(ReasonCode.JOB_FAILED, "Job failed with non-zero exit code")
    reason = None if result is GangResult.SUCCEEDED else failed
    shed.command(lambda: shed.engine.end(attempt, result, exit_code=exit_code, reason=reason, at=shed.clock.now))


@situation
def behind_a_higher_priority(shed: WholeService) -> None:
    shed.cluster("gpu", 2)
    shed.job("base", "gpu", 2, constraints={"maxWallClockTime": "PT2H"})
    shed.running("base")
    shed.clock.now += 30 * MINUTE
    shed.job("train", "gpu", 2)
    shed.job("urgent", "gpu", 2, schedulingPriority="high", constraints={"maxWallClockTime": "PT1H"})


@situation
def behind_many(shed: WholeService) -> None:
    shed.cluster("gpu", 1)
    shed.job("sweep-0", "gpu", 1, constraints={"maxWallClockTime": "PT10M"})
    shed.running("sweep-0")
    for number in range(1, 13):
        shed.job(f"sweep-{number}", "gpu", 1, constraints={"maxWallClockTime": "PT10M"})
    shed.job("train", "gpu", 1)


@situation
def next_in_line(shed: WholeService) -> None:
    shed.cluster("gpu", 2)
    shed.job("base", "gpu", 1, constraints={"maxWallClockTime": "PT2H"})
    shed.running("base")
    shed.job("train", "gpu", 2)


@situation
def wider_than_its_cluster(shed: WholeService) -> None:
    shed.cluster("gpu", 2)
    shed.job("train", "gpu", 4)


@situation
def nodes_are_kept_for_a_big_gang(shed: WholeService) -> None:
    shed.cluster("gpu", 4)
    shed.job("base", "gpu", 3, constraints={"maxWallClockTime": "PT2H"})
    shed.running("base")
    shed.clock.now += 30 * MINUTE
    shed.job("big", "gpu", 4, constraints={"maxWallClockTime": "PT3H"})
    shed.job("train", "gpu", 1)


@situation
def limit_of_running_jobs(shed: WholeService) -> None:
    (ann,) = people(shed, "ann@example.org")
    shed.cluster("gpu", 4)
    limits(shed, {"scope": "user", "measure": "runningJobs", "amount": 1})
    shed.job("base", "gpu", 1, token=ann, constraints={"maxWallClockTime": "PT2H"})
    shed.running("base")
    shed.job("train", "gpu", 1, token=ann)


@situation
def behind_ones_own_at_a_limit(shed: WholeService) -> None:
    (ann,) = people(shed, "ann@example.org")
    shed.cluster("gpu", 4)
    limits(shed, {"scope": "user", "measure": "runningJobs", "amount": 1})
    shed.job("base", "gpu", 1, token=ann, constraints={"maxWallClockTime": "PT2H"})
    shed.running("base")
    shed.job("baseline", "gpu", 1, token=ann)
    shed.job("train", "gpu", 1, token=ann)


@situation
def limit_of_nodes(shed: WholeService) -> None:
    (ann,) = people(shed, "ann@example.org")
    shed.cluster("gpu", 8)
    limits(shed, {"scope": "user", "name": "ann@example.org", "measure": "nodes", "amount": 4})
    shed.job("base", "gpu", 3, token=ann, constraints={"maxWallClockTime": "PT2H"})
    shed.running("base")
    shed.job("train", "gpu", 2, token=ann)


@situation
def wider_than_a_limit(shed: WholeService) -> None:
    shed.cluster("gpu", 4)
    limits(shed, {"scope": "experiment", "measure": "nodes", "amount": 2})
    shed.job("train", "gpu", 4)


@situation
def budget_is_spent(shed: WholeService) -> None:
    shed.cluster("gpu", 2)
    limits(shed, {"scope": "workspace", "measure": "nodeHours", "amount": 2, "period": "P1D"})
    shed.job("base", "gpu", 2)
    shed.running("base")
    shed.clock.now += 75 * MINUTE
    ends(shed, "base")
    shed.job_is("base", JobState.SUCCEEDED)
    shed.job("train", "gpu", 1)


@situation
def budget_is_spent_for_good(shed: WholeService) -> None:
    shed.cluster("gpu", 2)
    limits(shed, {"scope": "experiment", "measure": "nodeHours", "amount": 0.5})
    shed.job("base", "gpu", 1)
    shed.running("base")
    shed.clock.now += HOUR
    shed.job("train", "gpu", 1)


@situation
def another_job_has_to_succeed(shed: WholeService) -> None:
    shed.cluster("gpu", 2)
    shed.job("prepare", "gpu", 1)
    shed.running("prepare")
    shed.job("train", "gpu", 1, dependsOn=[{"job": "prepare", "condition": "afterOk"}])


@situation
def several_jobs_come_first(shed: WholeService) -> None:
    shed.cluster("gpu", 1)
    for name in ("download", "prepare", "baseline", "check"):
        shed.job(name, "gpu", 1)
    shed.running("download")
    on = [("download", "afterOk"), ("prepare", "after"), ("baseline", "afterAny"), ("check", "afterOk")]
    shed.job("train", "gpu", 1, dependsOn=[{"job": job, "condition": condition} for job, condition in on])


@situation
def not_its_turn_in_an_array(shed: WholeService) -> None:
    shed.cluster("gpu", 4)
    body = {"cluster": {"id": f"{WS}/clusters/gpu"}, "nodeCount": 1, "array": {"count": 5, "maxRunning": 2}}
    more = {"stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs", "customToolkitSettings": {"commandLine": "true"}}
    shed.put(f"{EXPERIMENT}/jobArrays/train", {"properties": {**body, **more}})
    shed.running("train-0", "train-1")


@situation
def nodes_are_unusable(shed: WholeService) -> None:
    shed.cluster("gpu", 3)
    failed = Reason(ReasonCode.SETUP_TASK_FAILED, "The setup task ended with exit code 3: no space left on device")
    for node in shed.nodes("gpu")[:2]:
        shed.command(lambda id=node.id: shed.engine.change(id, NodeCondition.UNUSABLE, reason=failed))
    shed.job("train", "gpu", 2)
    shed.wait_for("train", "NodesUnusable")


@situation
def nodes_are_made(shed: WholeService) -> None:
    shed.engine.prepare_slowly = True
    shed.cluster("gpu", scaleSettings={"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 4}})
    shed.job("train", "gpu", 2)
    shed.until(lambda _: len(shed.engine.nodes) == 2)
    shed.wait_for("train", "NodesPreparing")


@situation
def nodes_cannot_be_had(shed: WholeService) -> None:
    text = "This machine has 8 CPUs, of which 0 are free, and a node of STANDARD_D1 needs 1."
    shed.engine.refusal = Reason(ReasonCode.ALLOCATION_FAILED, text)
    shed.cluster("gpu", scaleSettings={"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 4}})
    shed.job("train", "gpu", 2)
    shed.wait_for("train", "AllocationFailed")


@situation
def tried_again_later(shed: WholeService) -> None:
    shed.cluster("gpu", 1)
    policy = {"maxRetries": 3, "backoff": {"initialDelay": "PT10M"}}
    shed.job("train", "gpu", 1, retryPolicy=policy)
    shed.running("train")
    shed.clock.now += 5 * MINUTE
    ends(shed, "train", GangResult.FAILED, 2)
    shed.job_is("train", JobState.QUEUED)


@situation
def others_make_room(shed: WholeService) -> None:
    shed.cluster("gpu", 2, preemption={"enabled": True})
    shed.job("base", "gpu", 2, schedulingPriority="low")
    shed.running("base")
    shed.job("train", "gpu", 2, schedulingPriority="high")
    shed.wait_for("train", "WaitingForPreemption")


@situation
def others_used_less(shed: WholeService) -> None:
    ann, bob = people(shed, "ann@example.org", "bob@example.org")
    shed.cluster("gpu", 1)
    shed.put(f"{WS}/schedulingRules", {"properties": {"fairShare": {"halfLife": "P7D"}}})
    shed.job("base", "gpu", 1, token=ann, constraints={"maxWallClockTime": "PT4H"})
    shed.running("base")
    shed.clock.now += 2 * HOUR
    shed.job("train", "gpu", 1, token=ann)
    shed.job("baseline", "gpu", 1, token=bob, constraints={"maxWallClockTime": "PT1H"})


@situation
def service_drains(shed: WholeService) -> None:
    shed.cluster("gpu", 2)
    shed.job("base", "gpu", 1)
    shed.running("base")
    shed.service.apply(lambda tx: draining.request(tx, "id"))
    shed.job("train", "gpu", 1)


@situation
def engine_is_away(shed: WholeService) -> None:
    shed.cluster("gpu", 1)
    shed.engine.down = True
    shed.until(lambda _: not shed.controller.engine_available)
    shed.job("train", "gpu", 1)


@situation
def cluster_shrinks(shed: WholeService) -> None:
    shed.cluster("gpu", 2)
    shed.job("base", "gpu", 2)
    shed.running("base")
    scale = {"manual": {"targetNodeCount": 1, "nodeDeallocationOption": "waitforjobcompletion"}}
    sent = shed.service.send("PATCH", f"{WS}/clusters/gpu", {"properties": {"scaleSettings": scale}}, version=NEW)
    assert sent.status_code == 200, sent.text
    shed.job("train", "gpu", 1)


@pytest.mark.parametrize("name", sorted(SITUATIONS))
def test_explain(name: str, shed: WholeService, trainshed: Run, snapshots: Snapshots) -> None:
    SITUATIONS[name](shed)
    job = "train-2" if name == "not_its_turn_in_an_array" else "train"
    result = trainshed("job", "explain", "-n", job)
    assert (result.code, result.err) == (0, "")
    snapshots.check(f"{name}.txt", result.out)


def test_as_json(shed: WholeService, trainshed: Run, snapshots: Snapshots) -> None:
    nodes_are_kept_for_a_big_gang(shed)
    result = trainshed("job", "explain", "-n", "train", "-o", "json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["estimatedStart"].keys() == {"earliest", "latest"}
    snapshots.check("as_json.json", result.out)


def test_a_snapshot_that_differs_fails_with_the_difference(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("train waits\nfor base\n")
    kept = Snapshots(tmp_path, update=False)
    kept.check("one.txt", "train waits\nfor base\n")
    with pytest.raises(pytest.fail.Exception, match=r"(?s)-for base.*[+]for big"):
        kept.check("one.txt", "train waits\nfor big\n")
    with pytest.raises(pytest.fail.Exception, match=r"[+]new"):
        kept.check("another.txt", "new\n")
    Snapshots(tmp_path, update=True).check("another.txt", "new\n")
    kept.check("another.txt", "new\n")
