"""Machines behind a queue of their own: they queue, place, pre-empt and queue again by themselves.

Their nodes are there for every cluster, whoever asks. What is queued again waits until the service takes it up with its
next attempt, or has it dropped.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from tests.simulation.chance import Profile
from tests.simulation.machines import Gang, Machines, Node
from tests.simulation.story import Story
from trainshed.engines.protocol import (
    EngineError,
    EngineView,
    GangResult,
    GangSpec,
    GangStatus,
    NodeCondition,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode

_QUEUED = Reason(ReasonCode.WAITING_FOR_SCHEDULER, "Simulated: nobody has looked at it yet.")
_BUSY = Reason(ReasonCode.WAITING_FOR_NODES, "Simulated: other jobs have the nodes.")
_PREEMPTED = Reason(ReasonCode.PREEMPTED, "Simulated: a job of somebody else needed the nodes.")

#: Nodes at the beginning, and when everything is to end: more than any job needs.
_NODES, _ENOUGH = 4, 100


class Site(Machines):
    """See the module."""

    def __init__(
        self,
        profile: Profile,
        roll: random.Random,
        story: Story,
        happens: Callable[[str], bool],
        clock: Callable[[], int],
    ) -> None:
        super().__init__(profile, roll, story, happens, clock)
        self._queue: list[str] = []
        #: By uid of a job, the attempt whose work it has queued again.
        self.queued_again: dict[str, str] = {}
        self._grow(min(_NODES, profile.capacity))

    def grow(self) -> None:
        """There is room for everything that waits."""
        self._grow(_ENOUGH)
        self._look()

    def view(self) -> EngineView:
        """Its nodes, once for each cluster."""
        own = super().view()
        nodes = [replace(node, cluster_uid=uid) for uid in self.clusters for node in own.nodes]
        return EngineView(tuple(nodes), own.gangs, own.file_servers, own.clusters)

    def remove_cluster(self, uid: str) -> None:
        """Nothing of it may wait or run."""
        for gang in self.gangs.values():
            if gang.spec.cluster_uid == uid and gang.status.result is None:
                self._story.violated("nothing-left-behind", f"cluster {uid} was removed while {gang.spec.job} is there")
        self.clusters.pop(uid, None)

    def remove_nodes(self, ids: tuple[str, ...]) -> None:
        """Nobody may ask for that."""
        self._story.violated("nothing-left-behind", f"the engine's own nodes {ids} are to be removed")

    def start(self, spec: GangSpec) -> None:
        """Into the queue; what it has queued again of the same job is taken up."""
        if spec.attempt_id in self.gangs:
            return
        self._check_start(spec)
        if spec.cluster_uid not in self.clusters:
            self._story.violated("no-pass-fails", f"{spec.job} is handed over for a cluster that it was not told of")
        if spec.node_ids or spec.node_count != spec.properties["nodeCount"]:
            self._story.violated("all-or-nothing", f"{spec.job} is handed over as {spec.node_count} on {spec.node_ids}")
        if self._happens("start refused"):
            # What nobody takes up is dropped, by a real engine after a while.
            if (left := self.queued_again.pop(spec.job_uid, None)) is not None:
                self._no_more(left)
            raise EngineError(Reason(ReasonCode.NODE_LOST, "Simulated: it was not taken into the queue."))
        former = self.queued_again.pop(spec.job_uid, None)
        if former is not None:
            self._story.count("taken up again")
            self._no_more(former)
        self.gangs[spec.attempt_id] = Gang(spec, set(), GangStatus(spec.attempt_id, waiting=_QUEUED))
        self._queue.append(spec.attempt_id)
        self._story.tell("gang is queued", spec.job, spec.attempt_id)
        self._later(self._roll.random() * self._profile.preparing, self._look)

    def stop(self, attempt_id: str, reason: Reason, grace: float, warning: StopWarning | None = None) -> None:
        """Out of the queue; or its processes, as ever; or what it has queued again."""
        gang = self.gangs.get(attempt_id)
        if gang is not None and gang.status.again:
            self._story.count("dropped")
            self.queued_again.pop(gang.spec.job_uid, None)
            self._no_more(attempt_id)
            self.tell(None)
        elif gang is not None and attempt_id in self._queue:
            self._queue.remove(attempt_id)
            self._conclude(gang, GangResult.STOPPED, None, reason)
        else:
            super().stop(attempt_id, reason, grace, warning)

    def restart(self) -> None:
        """What waits stays in the queue, but for what was not saved in time."""
        for id in [id for id in self._queue if self._roll.random() < 0.3]:
            self._queue.remove(id)
            reason = Reason(ReasonCode.ENGINE_STOPPED, "Simulated: the queue was lost.")
            self._conclude(self.gangs[id], GangResult.STOPPED, None, reason)
        for node in list(self.nodes.values()):
            self.reboot(node, tell=False)

    def _no_more(self, attempt_id: str) -> None:
        gang = self.gangs.get(attempt_id)
        if gang is not None:
            gang.status = replace(gang.status, again=False)

    def _grow(self, number: int) -> None:
        for ordinal in range(number):
            self.nodes.setdefault(f"n{ordinal}", Node(f"n{ordinal}", "", ordinal, NodeCondition.READY))

    def _prepared(self, node: Node, boot: int) -> None:
        super()._prepared(node, boot)
        self._look()

    def _look(self) -> None:
        """Whatever fits starts, in no order that anybody could foresee."""
        for id in self._roll.sample(self._queue, len(self._queue)):
            gang = self.gangs[id]
            free = [n for n in self.nodes.values() if n.condition is NodeCondition.READY and n.attempt is None]
            if len(free) >= gang.spec.node_count:
                self._begin(gang, self._roll.sample(free, gang.spec.node_count))
            elif gang.status.waiting != _BUSY:
                gang.status = replace(gang.status, waiting=_BUSY)
                self.tell(None)

    def _begin(self, gang: Gang, nodes: list[Node]) -> None:
        id = gang.spec.attempt_id
        self._queue.remove(id)
        for node in nodes:
            node.attempt = id
            gang.alive.add(node.id)
        hosts = tuple(node.id for node in nodes)
        gang.status = GangStatus(id, started_at=self._clock(), hosts=hosts)
        self._story.tell("gang runs", gang.spec.job, id, *hosts)
        self.tell(None)
        if self._roll.random() < 0.2:
            self._later(self._roll.random() * self._profile.running, self._preempt, gang)
        else:
            self._plan_end(gang)

    def _preempt(self, gang: Gang) -> None:
        self._end(gang, GangResult.STOPPED, None, _PREEMPTED)

    def _conclude(self, gang: Gang, result: GangResult, exit_code: int | None, reason: Reason | None) -> None:
        began, told = gang.status, self.tell
        self.tell = lambda status: None
        super()._conclude(gang, result, exit_code, reason)
        self.tell = told
        preempted = reason == _PREEMPTED
        again = preempted or (result is GangResult.LOST and self._roll.random() < 0.6)
        if again:
            self._story.count("queued again")
            self.queued_again[gang.spec.job_uid] = gang.spec.attempt_id
        gang.status = replace(gang.status, started_at=began.started_at, hosts=began.hosts, again=again)
        self.tell(gang.status)
        self._later(self._roll.random(), self._look)
