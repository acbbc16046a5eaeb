"""Users whose jobs belong together: some wait for others, some are arrays. With the API's own rules and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection

from tests.support.factories import SUBSCRIPTION, WORKSPACE_KEY
from trainshed.api.call import Call
from trainshed.api.dependencies import Found, look_up, make_wait
from trainshed.api.errors import ApiError
from trainshed.resources.conditions import Condition
from trainshed.resources.dependencies import Dependency
from trainshed.resources.lifecycle import JOB, JobState, ProvisioningState
from trainshed.store import job_arrays, jobs
from trainshed.store.errors import or_none
from trainshed.store.records import NewJob


class Path(NamedTuple):
    """A test double of ``api.call.Call``: as much of a request as dependencies are looked up with."""

    experiment: str
    workspace_key: str = WORKSPACE_KEY

    def name(self, kind: str) -> str:
        assert kind == "experiment"
        return self.experiment


@dataclass
class Array:
    """A job array that the service said it has."""

    name: str
    experiment: str
    limit: int | None
    #: uids of its jobs.
    members: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{WORKSPACE_KEY}/{self.experiment}/{self.name}"


class Together:
    """What a user does with several jobs; a part of ``user.User``."""

    def array(self) -> None:
        """PUT of a job array: all its jobs in one transaction."""
        if self.jobs_left <= 0:
            return
        self.jobs_left -= 1
        count, limit = self._roll.randint(2, 5), self._roll.choice((None, 1, 1, 2, 3))

        def create(tx: Connection) -> None:
            cluster = self._cluster(tx)
            if cluster is None:
                return
            experiment = self._experiment(tx)
            others = self._others(tx, experiment)
            if others is None:
                return
            array = Array(self._name("a"), experiment, limit)
            row = job_arrays.insert(
                tx,
                key=array.key,
                experiment_key=f"{WORKSPACE_KEY}/{experiment}",
                name=array.name,
                definition={},
                limit=limit,
                now=self._settings.clock(),
            )
            pattern = self._new_job(cluster, experiment, most=2)
            self._story.tell("user: array", array.name, f"{count} jobs", limit, f"{pattern.node_count} nodes")
            for place in range(count):
                turn = int(limit is not None and place >= limit)
                new = replace(self._named(pattern, f"{array.name}-{place}"), array_id=row.id, waits_turn=turn)
                self._accept(tx, new, experiment, others, array)
            self.arrays.append(array)

        self._write(create)

    def terminate_array(self) -> None:
        """POST terminate of an array."""

        def end(tx: Connection) -> None:
            array = self._an_array()
            found = None if array is None else or_none(job_arrays.get, tx, array.key)
            if found is not None:
                self._story.tell("user: terminate", found.name)
                for job in job_arrays.members(tx, found.id):
                    if job.execution not in JOB.final and job.execution is not JobState.TERMINATING:
                        jobs.request_termination(tx, job.id, self._settings.clock())

        self._write(end)

    def delete_array(self) -> None:
        """DELETE of an array, and with it of its jobs."""

        def delete(tx: Connection) -> None:
            array = self._an_array()
            found = None if array is None else or_none(job_arrays.get, tx, array.key)
            if array is None or found is None:
                return
            self._story.tell("user: delete", found.name)
            for job in job_arrays.members(tx, found.id):
                if job.state is not ProvisioningState.DELETING:
                    jobs.request_deletion(tx, job.id, self._settings.clock())
            job_arrays.delete(tx, found.id)
            for uid in array.members:
                self.accepted[uid].deleted = True

        self._write(delete)

    def _others(self, tx: Connection, experiment: str) -> Sequence[Found] | None:
        """What a new job of the experiment waits for; None when the service refuses it."""
        wanted = self._wanted(experiment)
        try:
            found = look_up(tx, cast(Call, Path(experiment)), wanted)
        except ApiError as refusal:
            self._story.tell("user: refused", refusal.problem.code, *(each.job for each in wanted))
            self._story.count(f"refused: {refusal.problem.code}")
            return None
        if any(each.job.endswith("nobody") for each in wanted):
            self._story.violated("dependencies-hold", "a job was accepted that waits for one that does not exist")
        return found

    def _wanted(self, experiment: str) -> list[Dependency]:
        """As ``dependsOn`` says it: mostly nothing, else jobs and arrays of any experiment, or what is not there."""
        if not self._profile.together or self._roll.random() > 0.3 or not self.accepted:
            return []
        known = list(self.accepted.values())
        wanted = []
        for _ in range(self._roll.choice((1, 1, 2, 3))):
            chosen: Any = known[max(self._roll.randrange(len(known)), self._roll.randrange(len(known)))]
            if self.arrays and self._roll.random() < 0.25:
                chosen = self._roll.choice(self.arrays)
            name = chosen.name if self._roll.random() < 0.9 else "nobody"
            if chosen.experiment != experiment or self._roll.random() < 0.1:
                name = f"{chosen.experiment}/{name}"
            wanted.append(Dependency.model_construct(job=name, condition=self._roll.choice(_CONDITIONS)))
        return wanted

    def _wait(self, tx: Connection, job_id: int, others: Sequence[Found]) -> tuple[tuple[str, Condition], ...]:
        """The new job waits; for whom and until when."""
        make_wait(tx, job_id, others, self._settings.clock())
        return tuple((other.uid, condition) for other, condition, _ in others)

    def _named(self, pattern: NewJob, name: str) -> NewJob:
        """Another job of an array."""
        uid, experiment = self._uid(), pattern.experiment_key.rpartition("/")[2]
        segment = f"{SUBSCRIPTION}/trainshed/workspaces/default/experiments/{experiment}/jobs/{name}/{uid}"
        return replace(pattern, key=f"{pattern.experiment_key}/{name}", name=name, uid=uid, segment=segment)

    def _an_array(self) -> Array | None:
        return self._roll.choice(self.arrays) if self.arrays else None


_CONDITIONS = tuple(condition.value for condition in Condition)
