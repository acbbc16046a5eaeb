"""What really is: nodes, and processes of gangs on them. The truth that the engine tells of, whoever listens.

A gang's end is final only when none of its processes lives. Everything here survives the service.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.chance import Profile
from tests.simulation.story import Story
from trainshed.engines.protocol import (
    ClusterSpec,
    EngineError,
    EngineView,
    FileServerCondition,
    FileServerStatus,
    GangResult,
    GangSpec,
    GangStatus,
    NodeCondition,
    NodeSpec,
    NodeStatus,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode


@dataclass
class Node:
    """One node."""

    id: str
    cluster_uid: str
    ordinal: int
    condition: NodeCondition = NodeCondition.PREPARING
    boot: int = 1
    reason: Reason | None = None
    removing: bool = False
    #: The attempt that has a process here.
    attempt: str | None = None


@dataclass
class Gang:
    """One attempt's processes."""

    spec: GangSpec
    #: Nodes on which processes of it live.
    alive: set[str]
    status: GangStatus
    stopping: Reason | None = None
    #: It was warned, and has some time of its own.
    warned: bool = False
    loss: Reason | None = None


@dataclass
class Truth:
    """What became of a job's attempts, by its uid."""

    results: dict[str, GangResult] = field(default_factory=dict)
    exit_codes: dict[str, int | None] = field(default_factory=dict)


class Machines:
    """Nodes and gangs in virtual time. ``tell`` is called with every change."""

    def __init__(
        self,
        profile: Profile,
        roll: random.Random,
        story: Story,
        happens: Callable[[str], bool],
        clock: Callable[[], int],
    ) -> None:
        self._profile = profile
        self._roll = roll
        self._story = story
        self._happens = happens
        self._clock = clock
        self.tell: Callable[[GangStatus | None], None] = lambda status: None
        self.capacity = profile.capacity
        self.clusters: dict[str, ClusterSpec] = {}
        self.nodes: dict[str, Node] = {}
        self.gangs: dict[str, Gang] = {}
        self.file_servers: dict[str, FileServerStatus] = {}
        #: Attempts that the service said it has recorded: they must never run again.
        self.forgotten: set[str] = set()
        self.truth: dict[str, Truth] = {}

    # What the engine is asked for.

    def view(self) -> EngineView:
        """Everything, now."""
        return EngineView(
            tuple(
                NodeStatus(
                    node.id,
                    node.cluster_uid,
                    node.condition,
                    node.boot,
                    f"host{node.ordinal}",
                    f"127.9.0.{node.ordinal + 4}",
                    None,
                    node.reason,
                )
                for node in self.nodes.values()
            ),
            tuple(gang.status for gang in self.gangs.values()),
            tuple(self.file_servers.values()),
            tuple(self.clusters),
        )

    def ensure_cluster(self, cluster: ClusterSpec) -> None:
        """It is known from now on."""
        self.clusters[cluster.uid] = cluster

    def remove_cluster(self, uid: str) -> None:
        """It is not known any more. Its nodes must be gone."""
        if any(node.cluster_uid == uid for node in self.nodes.values()):
            self._story.violated("nothing-left-behind", f"cluster {uid} was removed while the engine has nodes of it")
        self.clusters.pop(uid, None)

    def add_nodes(self, cluster: ClusterSpec, specs: tuple[NodeSpec, ...]) -> None:
        """All of them or none. Raises EngineError."""
        self.ensure_cluster(cluster)
        new = [spec for spec in specs if spec.node_id not in self.nodes]
        if len(self.nodes) + len(new) > self.capacity or (new and self._happens("allocation refused")):
            self._story.count("allocation refused")
            raise EngineError(Reason(ReasonCode.ALLOCATION_FAILED, f"The machine cannot hold {len(new)} nodes more."))
        for spec in new:
            self._story.tell("node appears", spec.node_id)
            node = self.nodes[spec.node_id] = Node(spec.node_id, cluster.uid, spec.ordinal)
            self._prepare(node)
        if new:
            self.tell(None)

    def remove_nodes(self, ids: tuple[str, ...]) -> None:
        """They go when nothing runs on them any more."""
        for id in ids:
            node = self.nodes.get(id)
            if node is not None and not node.removing:
                node.removing = True
                if node.attempt is not None:
                    self._lose(node, "was removed")
                self._later(self._roll.random(), self._gone, node)

    def start(self, spec: GangSpec) -> None:
        """On all nodes or none. Raises EngineError when one cannot take it."""
        if spec.attempt_id in self.gangs:
            return
        self._check_start(spec)
        if len(set(spec.node_ids)) != spec.properties["nodeCount"]:
            self._story.violated("all-or-nothing", f"{spec.job} starts on {spec.node_ids}")
        members = []
        for id in spec.node_ids:
            node = self.nodes.get(id)
            if node is None or node.condition is not NodeCondition.READY or node.removing or node.attempt is not None:
                self._story.count("start refused")
                text = f"Node {id} cannot take the attempt, so it was not started on any node."
                raise EngineError(Reason(ReasonCode.NODE_LOST, text))
            members.append(node)
        if self._happens("start refused"):
            raise EngineError(Reason(ReasonCode.NODE_LOST, "Simulated: the attempt was not started on any node."))
        for node in members:
            node.attempt = spec.attempt_id
        gang = Gang(spec, set(spec.node_ids), GangStatus(spec.attempt_id))
        self.gangs[spec.attempt_id] = gang
        self._story.tell("gang runs", spec.job, spec.attempt_id, *spec.node_ids)
        self._plan_end(gang)

    def stop(self, attempt_id: str, reason: Reason, grace: float, warning: StopWarning | None = None) -> None:
        """Ask its processes to end; what has ended by itself before that keeps its own end.

        One that is only warned may finish its work or leave in any way; a stop without warning comes sooner.
        """
        gang = self.gangs.get(attempt_id)
        if gang is None or gang.status.result is not None:
            return
        if gang.stopping is not None and (warning is not None or not gang.warned):
            return
        gang.stopping, gang.warned = reason, warning is not None
        if warning is not None and self._happens("leaves when warned"):
            done = self._roll.random() < 0.5
            result, code = (GangResult.SUCCEEDED, 0) if done else (GangResult.STOPPED, None)
            self._later(self._roll.random() * warning.seconds, self._end, gang, result, code, None if done else reason)
        most = grace + (warning.seconds if warning is not None else 0)
        self._later(self._roll.random() * most, self._end, gang, GangResult.STOPPED, None, reason)

    def forget(self, attempt_ids: tuple[str, ...]) -> None:
        """Outcomes that are recorded elsewhere."""
        for id in attempt_ids:
            gang = self.gangs.get(id)
            if gang is not None and gang.status.result is not None:
                del self.gangs[id]
                self.forgotten.add(id)

    def serve(self, uid: str) -> None:
        """A file server, at once."""
        self.file_servers.setdefault(uid, FileServerStatus(uid, FileServerCondition.SERVING, "127.9.1.1", 2049, 20048))

    # What happens by itself.

    def _prepare(self, node: Node) -> None:
        node.condition, node.reason = NodeCondition.PREPARING, None
        self._later(self._roll.random() * self._profile.preparing, self._prepared, node, node.boot)

    def _prepared(self, node: Node, boot: int) -> None:
        if self.nodes.get(node.id) is not node or node.boot != boot or node.removing:
            return
        if self._happens("setup fails"):
            node.condition = NodeCondition.UNUSABLE
            node.reason = Reason(ReasonCode.SETUP_TASK_FAILED, f"The setup task of {node.id} ended with exit code 1.")
        else:
            node.condition, node.reason = NodeCondition.READY, None
        self._story.tell("node is", node.condition.value, node.id)
        self.tell(None)

    def _plan_end(self, gang: Gang) -> None:
        seconds = self._roll.random() * self._profile.running
        limit = gang.spec.wall_clock_seconds
        if limit is not None and limit < 60 and self._happens("wall clock ignored"):
            return  # Until somebody stops it.
        if self._happens("job kills its node"):
            self._later(seconds, self._job_kills, gang)
        elif limit is not None and seconds > limit:
            reason = Reason(ReasonCode.JOB_WALL_CLOCK_EXCEEDED, "Longer than its maxWallClockTime.")
            self._later(limit, self._end, gang, GangResult.FAILED, None, reason)
        elif self._roll.random() < 0.7:
            self._later(seconds, self._end, gang, GangResult.SUCCEEDED, 0, None)
        else:
            reason = Reason(ReasonCode.JOB_FAILED, "Job failed with non-zero exit code")
            self._later(seconds, self._end, gang, GangResult.FAILED, self._roll.randint(1, 3), reason)

    def _job_kills(self, gang: Gang) -> None:
        if gang.alive and gang.status.result is None:
            self.reboot(self.nodes[min(gang.alive)])

    def _end(self, gang: Gang, result: GangResult, exit_code: int | None, reason: Reason | None) -> None:
        if gang.status.result is not None or gang.loss is not None:
            return
        for id in gang.alive:
            self.nodes[id].attempt = None
        gang.alive.clear()
        self._conclude(gang, result, exit_code, reason)

    def _conclude(self, gang: Gang, result: GangResult, exit_code: int | None, reason: Reason | None) -> None:
        id = gang.spec.attempt_id
        gang.status = GangStatus(id, result, exit_code, reason, ended_at=self._clock())
        truth = self.truth.setdefault(gang.spec.job_uid, Truth())
        truth.results[id] = result
        truth.exit_codes[id] = exit_code
        self._story.tell("gang ended", result.value, gang.spec.job, id, exit_code)
        self._story.count(f"gang {result.value}")
        self.tell(gang.status)

    def _lose(self, node: Node, how: str) -> None:
        """The processes on the node are gone; the gang's others are killed and end a little later."""
        gang = self.gangs[node.attempt] if node.attempt is not None else None
        node.attempt = None
        if gang is None:
            return
        gang.alive.discard(node.id)
        if gang.loss is None:
            gang.loss = Reason(ReasonCode.NODE_LOST, f"Node {node.id} {how}.", {"node": node.id})
            self._later(self._roll.random() * 2 if gang.alive else 0.0, self._lost, gang)

    def _lost(self, gang: Gang) -> None:
        for id in gang.alive:
            self.nodes[id].attempt = None
        gang.alive.clear()
        self._conclude(gang, GangResult.LOST, None, gang.loss)

    def _gone(self, node: Node) -> None:
        if self.nodes.get(node.id) is node:
            self._story.tell("node is gone", node.id)
            if node.attempt is not None:
                self._lose(node, "is gone")
            del self.nodes[node.id]
            self.tell(None)

    # What faults do.

    def any_node(self, *conditions: NodeCondition) -> Node | None:
        """One of the nodes in these conditions."""
        found = [node for node in self.nodes.values() if node.condition in conditions and not node.removing]
        return self._roll.choice(found) if found else None

    def reboot(self, node: Node, *, tell: bool = True) -> None:
        """Whatever ran on it is gone; it prepares again."""
        self._story.tell("node reboots", node.id)
        self._lose(node, "was rebooted")
        node.boot += 1
        self._prepare(node)
        if tell:
            self.tell(None)

    def vanish(self, node: Node) -> None:
        """As a low-priority node that is taken away: the engine does not have it any more."""
        self._gone(node)

    def break_(self, node: Node) -> None:
        """It stays, and is of no use."""
        self._story.tell("node breaks", node.id)
        self._lose(node, "is not healthy")
        node.condition = NodeCondition.UNUSABLE
        node.reason = Reason(ReasonCode.SETUP_TASK_FAILED, f"Simulated: {node.id} is not healthy.")
        self.tell(None)

    def restart(self) -> None:
        """The engine's own processes start again: all nodes boot again, outcomes are kept.

        What ran is lost, or was stopped in good order before.
        """
        if self._roll.random() < 0.7:
            for gang in list(self.gangs.values()):
                reason = Reason(ReasonCode.ENGINE_STOPPED, "The engine was stopped while the job ran.")
                self._end(gang, GangResult.STOPPED, None, reason)
        for node in list(self.nodes.values()):
            if not node.removing:
                self.reboot(node, tell=False)

    def _later(self, seconds: float, do: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(seconds, do, *arguments)

    def _check_start(self, spec: GangSpec) -> None:
        """What must hold whenever processes are about to start."""
        for gang in self.gangs.values():
            if gang.spec.job_uid == spec.job_uid and gang.status.result is None:
                text = f"attempt {spec.attempt_id} of {spec.job} starts while {gang.spec.attempt_id} has processes"
                self._story.violated("one-live-attempt", text)
        if spec.attempt_id in self.forgotten:
            self._story.violated("no-attempt-runs-twice", f"attempt {spec.attempt_id} of {spec.job} starts once more")
        truth = self.truth.get(spec.job_uid)
        if truth is not None and GangResult.SUCCEEDED in truth.results.values():
            self._story.violated("success-is-final", f"{spec.job} starts again after it succeeded")
