"""Planted bugs, at least one for each invariant: what its check must catch, looked for by that check alone.

Each is a function that changes the product while it is used as a context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from sqlalchemy import text

import trainshed.control.clusters
import trainshed.control.controller
import trainshed.control.dependencies
import trainshed.control.explaining
import trainshed.control.nodes
import trainshed.control.outcomes
import trainshed.control.placing
import trainshed.control.settling
from tests.simulation.chance import Profile
from trainshed.control.actions import Actions
from trainshed.control.clusters import ClusterPass
from trainshed.control.controller import Controller
from trainshed.control.policies import Policies
from trainshed.engines.protocol import GangResult, GangStatus
from trainshed.resources.conditions import Condition
from trainshed.resources.lifecycle import AttemptState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.scheduling.health import LossLimits
from trainshed.scheduling.ledger import Ledger
from trainshed.scheduling.retrying import Retrying
from trainshed.store import attempts, dependencies, events, job_arrays, jobs

clusters_module = trainshed.control.clusters
dependencies_module = trainshed.control.dependencies
controller_module = trainshed.control.controller
nodes_module = trainshed.control.nodes
outcomes_module = trainshed.control.outcomes
placing_module = trainshed.control.placing
settling_module = trainshed.control.settling


@dataclass(frozen=True)
class Mutant:
    """A planted bug."""

    name: str
    #: The invariant whose check must catch it.
    invariant: str
    #: Changes the product while it is entered.
    planted: Callable[[], AbstractContextManager[None]]
    #: Faults that bring it to light, beside those of the seed.
    faults: Mapping[str, float]
    #: So many jobs, by users who know of dependencies, arrays and rules; None for what the seed has.
    jobs: int | None = None

    def profile(self, seed: int) -> Profile:
        """The seed's, with those faults."""
        profile = Profile.of(seed)
        profile.faults.update(self.faults)
        if self.jobs is not None:
            profile.jobs, profile.together = self.jobs, True
        return profile


MUTANTS: list[Mutant] = []


def catches(
    invariant: str, *, jobs: int | None = None, **faults: float
) -> Callable[[Callable[[], Iterator[None]]], None]:
    """Registers a planted bug."""

    def register(make: Callable[[], Iterator[None]]) -> None:
        named = {name.replace("_", " "): probability for name, probability in faults.items()}
        MUTANTS.append(Mutant(make.__name__, invariant, contextmanager(make), named, jobs))

    return register


@catches("no-job-lost")
def a_requeue_is_dropped() -> Iterator[None]:
    with mock.patch.object(jobs, "requeue", lambda *arguments, **more: None):
        yield


@catches("no-job-lost")
def a_job_that_failed_is_forgotten() -> Iterator[None]:
    finish = outcomes_module.finish_job

    def forget(tx: Any, job: Any, *arguments: Any, **more: Any) -> None:
        finish(tx, job, *arguments, **more)
        jobs.delete(tx, job.id)

    with mock.patch.object(outcomes_module, "finish_job", forget):
        yield


@catches("one-live-attempt", message_doubled=0.5, message_late=0.3, job_kills_its_node=0.3)
def an_outcome_is_applied_whenever_it_is_told() -> Iterator[None]:
    finish = attempts.finish

    def again(tx: Any, id: str, *arguments: Any, **more: Any) -> Any:
        attempt = attempts.get(tx, id)
        return attempt if attempt.state is AttemptState.LOST else finish(tx, id, *arguments, **more)

    with mock.patch.object(attempts, "finish", again):
        yield


@catches("one-live-attempt")
def an_attempt_that_the_engine_does_not_show_is_taken_for_lost() -> Iterator[None]:
    sync = nodes_module.sync_gangs

    def impatient(tx: Any, view: Any, fleet: Any, settings: Any, actions: Actions, now: int) -> None:
        seen = {gang.attempt_id for gang in view.gangs}
        for attempt in attempts.live(tx):
            if attempt.id not in seen:
                outcomes_module.settle(tx, GangStatus(attempt.id, GangResult.LOST), now, settings.losses)
        sync(tx, view, fleet, settings, actions, now)

    with mock.patch.object(controller_module, "sync_gangs", impatient):
        yield


@catches("node-in-one-gang")
def nodes_are_not_held() -> Iterator[None]:
    insert = attempts.insert

    def loosely(tx: Any, **more: Any) -> Any:
        record = insert(tx, **more)
        tx.execute(text("DELETE FROM holdings WHERE attempt_id = :id"), {"id": record.id})
        return record

    with mock.patch.object(attempts, "insert", loosely):
        yield


@catches("all-or-nothing")
def a_gang_starts_short_of_a_node() -> Iterator[None]:
    record = placing_module._record

    def short(tx: Any, actions: Any, job_id: int, node_ids: tuple[str, ...], *more: Any) -> Any:
        return record(tx, actions, job_id, node_ids[: max(1, len(node_ids) - 1)], *more)

    with mock.patch.object(placing_module, "_record", short):
        yield


@catches("all-or-nothing")
def nodes_of_an_ended_attempt_stay_held() -> Iterator[None]:
    with mock.patch.object(attempts, "_release", text("SELECT :of")):
        yield


@catches("scale-limits")
def one_node_too_many_is_added() -> Iterator[None]:
    resize = clusters_module.resize

    def generous(*arguments: Any) -> Any:
        step = resize(*arguments)
        return replace(step, add=step.add + 1) if step.add else step

    with mock.patch.object(clusters_module, "resize", generous):
        yield


@catches("scale-limits")
def a_node_with_work_is_taken() -> Iterator[None]:
    nodes_of = clusters_module.scaling_nodes

    def careless(*arguments: Any) -> Any:
        return [replace(node, attempt_id=None) for node in nodes_of(*arguments)]

    with mock.patch.object(clusters_module, "scaling_nodes", careless):
        yield


@catches("core-quotas")
def nobody_asks_for_the_quota() -> Iterator[None]:
    with mock.patch.object(ClusterPass, "_within_quota", lambda self, cluster, members, wanted: (wanted, None)):
        yield


@catches("lifecycles")
def a_change_has_no_event() -> Iterator[None]:
    append = events.append

    def forgetful(tx: Any, **more: Any) -> None:
        if more["event"] != "requeued":
            append(tx, **more)

    with mock.patch.object(events, "append", forgetful):
        yield


@catches("lifecycles")
def an_event_tells_of_another_state() -> Iterator[None]:
    append = events.append

    def wrongly(tx: Any, **more: Any) -> None:
        if more["event"] == "prepared":
            more["to_state"] = "unusable"
        append(tx, **more)

    with mock.patch.object(events, "append", wrongly):
        yield


@catches("success-is-final")
def a_success_is_tried_again() -> Iterator[None]:
    settle_job = outcomes_module._settle_job

    def wrongly(tx: Any, job: Any, attempt: Any, status: GangStatus, *more: Any) -> Any:
        lost = replace(status, result=GangResult.LOST) if status.result is GangResult.SUCCEEDED else status
        return settle_job(tx, job, attempt, lost, *more)

    with mock.patch.object(outcomes_module, "_settle_job", wrongly):
        yield


@catches("truth-is-told")
def an_exit_code_is_made_up() -> Iterator[None]:
    finish = attempts.finish

    def wrongly(*arguments: Any, **more: Any) -> Any:
        return finish(*arguments, **{**more, "exit_code": more["exit_code"] or 0})

    with mock.patch.object(attempts, "finish", wrongly):
        yield


@catches("tries-are-counted")
def a_policy_never_ends() -> Iterator[None]:
    with mock.patch.object(Retrying, "after", lambda self, code, retries: 0 if self.covers(code) else None):
        yield


@catches("tries-are-counted", jobs=24)
def nobody_waits_for_the_delay() -> Iterator[None]:
    walk, lanes = jobs.walk, jobs.lanes

    def early(read: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, now, **more: read(*arguments, now=now + 60_000, **more)

    with mock.patch.object(jobs, "walk", early(walk)), mock.patch.object(jobs, "lanes", early(lanes)):
        yield


@catches("tries-are-counted", job_kills_its_node=0.6)
def losses_have_no_limit() -> Iterator[None]:
    settle = outcomes_module.settle

    def patient(tx: Any, status: GangStatus, now: int, limits: LossLimits) -> Any:
        return settle(tx, status, now, LossLimits(10**9, 10**9, 10**9))

    with mock.patch.object(settling_module, "settle", patient), mock.patch.object(controller_module, "settle", patient):
        yield


@catches("every-wait-has-a-reason")
def the_reason_is_always_the_same() -> Iterator[None]:
    same = Reason(ReasonCode.WAITING_BEHIND_JOBS, "Others are before it.")
    with mock.patch.object(controller_module, "why", lambda *arguments, **more: same):
        yield


@catches("everything-ends")
def what_was_recorded_and_not_started_is_left() -> Iterator[None]:
    sync = nodes_module.sync_gangs

    def leave(tx: Any, view: Any, fleet: Any, settings: Any, actions: Actions, now: int) -> None:
        before = len(actions.starts)
        sync(tx, view, fleet, settings, actions, now)
        del actions.starts[before:]

    with mock.patch.object(controller_module, "sync_gangs", leave):
        yield


@catches("everything-ends")
def ends_are_believed_only_when_somebody_tells() -> Iterator[None]:
    sync = nodes_module.sync_gangs

    def trusting(tx: Any, view: Any, *more: Any) -> None:
        running = tuple(gang for gang in view.gangs if gang.result is None)
        ended = tuple(GangStatus(gang.attempt_id) for gang in view.gangs if gang.result is not None)
        sync(tx, replace(view, gangs=running + ended), *more)

    with mock.patch.object(controller_module, "sync_gangs", trusting):
        yield


@catches("everything-ends")
def what_an_engine_queues_again_is_left_to_it() -> Iterator[None]:
    with mock.patch.object(settling_module, "take_up", lambda *arguments, **more: True):
        yield


@catches("everything-ends")
def outcomes_are_never_forgotten() -> Iterator[None]:
    carry_out = Controller._carry_out

    def keep(self: Controller, actions: Actions) -> None:
        actions.forget.clear()
        carry_out(self, actions)

    with mock.patch.object(Controller, "_carry_out", keep):
        yield


@catches("no-attempt-runs-twice")
def an_outcome_is_forgotten_before_it_is_recorded() -> Iterator[None]:
    heard = Controller._on_engine_event

    def hasty(self: Controller, status: GangStatus | None) -> None:
        if status is not None and status.result is not None:
            self._call(self._engine.forget_gang((status.attempt_id,)))
        heard(self, status)

    with mock.patch.object(Controller, "_on_engine_event", hasty):
        yield


@catches("one-live-attempt")
def a_gang_starts_before_it_is_recorded() -> Iterator[None]:
    record = placing_module._record
    advance = Controller._advance_jobs

    def acting(self: Controller, tx: Any, actions: Actions, *more: Any) -> Any:
        def hasty(*arguments: Any) -> None:
            record(*arguments)
            self._call(self._start(actions.starts[-1]))

        with mock.patch.object(placing_module, "_record", hasty):
            return advance(self, tx, actions, *more)

    with mock.patch.object(Controller, "_advance_jobs", acting):
        yield


@catches("no-pass-fails")
def a_pass_takes_for_granted_that_the_engine_has_all_nodes() -> Iterator[None]:
    missing = nodes_module.missing_nodes

    def assuming(tx: Any, view: Any, *more: Any) -> None:
        present = {status.node_id for status in view.nodes}
        for node in trainshed.control.nodes.nodes.all_live(tx):
            if node.state.value == "ready":
                present.remove(node.id)
        missing(tx, view, *more)

    with mock.patch.object(controller_module, "missing_nodes", assuming):
        yield


@catches("dependencies-hold", jobs=12)
def a_job_that_failed_is_good_enough_for_those_that_wait() -> Iterator[None]:
    judge = dependencies_module.judge

    def lenient(condition: Condition, other: Any) -> Any:
        return judge(Condition.AFTER_ANY if condition is Condition.AFTER_OK else condition, other)

    with mock.patch.object(dependencies_module, "judge", lenient):
        yield


@catches("dependencies-hold", jobs=24)
def one_met_condition_is_taken_for_all() -> Iterator[None]:
    def hasty(tx: Any, on_job_id: int, conditions: Any) -> int:
        waiting = [record.job_id for record in dependencies.waiting_on(tx, on_job_id)]
        met = meet(tx, on_job_id, conditions)
        for job_id in waiting:
            tx.execute(text("UPDATE jobs SET blocked = 0 WHERE id = :of"), {"of": job_id})
        return met

    meet = dependencies.meet
    with mock.patch.object(dependencies, "meet", hasty):
        yield


@catches("everything-ends", jobs=12)
def nobody_is_told_that_a_condition_is_met() -> Iterator[None]:
    with mock.patch.object(dependencies, "meet", lambda tx, on_job_id, conditions: 0):
        yield


@catches("turns-are-taken", jobs=12)
def one_more_of_an_array_has_its_turn() -> Iterator[None]:
    room = job_arrays.room

    with mock.patch.object(job_arrays, "room", lambda tx, array_id: room(tx, array_id) + 1):
        yield


@catches("everything-ends", jobs=12)
def turns_are_not_passed_on() -> Iterator[None]:
    with mock.patch.object(job_arrays, "release", lambda tx, array_id, number: None):
        yield


@catches("limits-hold", jobs=24)
def what_was_placed_a_moment_ago_does_not_count() -> Iterator[None]:
    with (
        mock.patch.object(Ledger, "begin", lambda *arguments: None),
        mock.patch.object(Ledger, "take_back", lambda *arguments: None),
    ):
        yield


@catches("limits-hold", jobs=24)
def nothing_was_ever_spent() -> Iterator[None]:
    with mock.patch.object(Policies, "_spent", lambda *arguments: {}):
        yield


@catches("nothing-left-behind")
def a_cluster_is_removed_before_its_nodes() -> Iterator[None]:
    with mock.patch.object(
        controller_module,
        "unwanted_clusters",
        lambda tx, view, actions: actions.remove_clusters.extend(view.clusters),
    ):
        yield
