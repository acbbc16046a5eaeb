"""Holds Ray's nodes for the clusters: claims free ones, keeps an agent on each, notices those that die, lets go."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from trainshed.engines.local.addresses import host_name
from trainshed.engines.local.layout import read_all, write_durably
from trainshed.engines.local.messages import Message
from trainshed.engines.local.record import RESTART_FIRST, RESTART_LIMIT, START_TRIES
from trainshed.engines.local.wire import Refused
from trainshed.engines.protocol import NodeCondition
from trainshed.engines.ray.claims import Death, RayNode, Wanted, free_nodes, request, shortage
from trainshed.engines.ray.held import HeldNode
from trainshed.engines.ray.places import Places
from trainshed.resources.reasons import Reason, ReasonCode

T = TypeVar("T")

#: Seconds between looks at Ray's nodes while one is wanted, and otherwise; a look that takes longer than the last means
#: that Ray's head is away.
_LOOK_SOON, _LOOK_LATER, LOOK_PATIENCE = 0.25, 1.0, 10.0
#: One look in so many is also for agents that nobody knows.
_LOOKS_FOR_STRAYS = 20
#: Seconds in which a node has to end what runs on it and write its volumes.
_LEAVE_PATIENCE = 150.0
#: Seconds in which machines join a head that was started anew: a raylet without its head ends itself after 60 s, and
#: somebody has to start it again.
_REJOIN_SECONDS = 300.0
#: Seconds for which a bridge that starts waits for the first word of the nodes that are there.
_KNOW_PATIENCE = 10.0


class Ray(Protocol):
    """What is needed of ``cluster.RayCluster``."""

    def nodes(self) -> list[RayNode]: ...

    def hold(self, name: str, node: RayNode, program: str, mark: str, log: str) -> Any: ...

    def find(self, name: str) -> Any: ...

    def names(self) -> list[str]: ...

    def end(self, agent: Any) -> None: ...

    def request(self, bundles: list[dict[str, float]], labels: list[dict[str, str]]) -> None: ...


class NodeHolder:
    """All nodes. Callbacks tell what changed: anything; what a node's attempts became; that a node is gone for good."""

    def __init__(
        self,
        places: Places,
        ray: Ray,
        leader: tuple[str, int] | None,
        autoscale: bool,
        on_changed: Callable[[], None],
    ) -> None:
        self._places, self._ray, self._leader, self._autoscale = places, ray, leader, autoscale
        self._on_changed = on_changed
        self.on_parts: Callable[[HeldNode, dict[str, Message | None]], None] = lambda node, parts: None
        self.on_gone: Callable[[str], None] = lambda node_id: None
        self.nodes: dict[str, HeldNode] = {}
        self.clusters: dict[str, Message] = {}
        #: Of clusters whose setup has secrets; in memory only.
        self._secrets: dict[str, Message] = {}
        self._program = ""
        self._alive: list[RayNode] = []
        self._requested: Any = None
        self._awake = asyncio.Event()
        self._background: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._looks = 0
        self._superseded = False
        #: Monotonic seconds until which machines may join a new head that the former one had.
        self._rejoining_until = 0.0

    def load(self) -> None:
        """What a former bridge recorded."""
        for record in read_all(self._places.clusters):
            self.clusters[record["uid"]] = record
        for record in read_all(self._places.nodes):
            if record["cluster_uid"] in self.clusters:
                self.nodes[record["node_id"]] = HeldNode.from_record(record)
            else:
                (self._places.nodes / f"{record['node_id']}.json").unlink()

    async def take_over(self) -> None:
        """Find the nodes again; returns when those that are there have said what runs on them."""
        self._program = str(await asyncio.to_thread(self._places.bring_package))
        for node in self.nodes.values():
            if not node.ray_id:
                self.on_gone(node.node_id)
        await self.look()
        with suppress(TimeoutError):
            async with asyncio.timeout(_KNOW_PATIENCE):
                for node in list(self.nodes.values()):
                    if node.ray_id:
                        await node.known.wait()

    async def watch_ray(self) -> None:
        """Look at Ray's nodes for ever. Raises TimeoutError and what Ray raises when its head is away; RuntimeError
        when another process of the service leads.
        """
        while True:
            wanted = any(not node.ray_id for node in self.nodes.values())
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SOON if wanted else _LOOK_LATER):
                    await self._awake.wait()
            self._awake.clear()
            if self._superseded:
                raise RuntimeError("another process of the service leads now")
            await self.look()

    async def look(self) -> None:
        """Notice Ray's nodes that came and went; give those that are free to who wants them."""
        async with asyncio.timeout(LOOK_PATIENCE):
            known = await asyncio.to_thread(self._ray.nodes)
        self._alive = [node for node in known if node.death is None]
        living = {node.ray_id: node for node in self._alive}
        deaths = {node.ray_id: node.death for node in known}
        for node in list(self.nodes.values()):
            if not node.ray_id or node.is_gone:
                continue
            if node.ray_id not in living:
                self._gone(node, deaths.get(node.ray_id))
            elif node.task is None:
                self._keep(node, living[node.ray_id])
        for node in sorted(self.nodes.values(), key=lambda node: (node.cluster_uid, node.ordinal)):
            if not node.ray_id and not node.removing and not self._closing:
                free = free_nodes(self._alive, self._held(), Wanted.of(self.clusters[node.cluster_uid]))
                if free:
                    self._claim(node, free[0])
        await self._ask_autoscaler()
        self._looks += 1
        if self._looks % _LOOKS_FOR_STRAYS == 1:
            await self._end_strays()

    async def _end_strays(self) -> None:
        """Agents of nodes that nobody knows: a bridge that was killed had just made them. They hold machines."""
        async with asyncio.timeout(LOOK_PATIENCE):
            names = await asyncio.to_thread(self._ray.names)
        for name in names:
            # As it is on disk: another process may lead by now, and have made others.
            if (self._places.nodes / f"{name}.json").exists():
                continue
            if (agent := await asyncio.to_thread(self._ray.find, name)) is not None:
                print(f"the agent of node {name}, which nobody knows, is ended", file=sys.stderr, flush=True)
                await asyncio.to_thread(self._ray.end, agent)

    def _held(self) -> set[str]:
        return {node.ray_id for node in self.nodes.values() if node.ray_id}

    def _claim(self, node: HeldNode, ray_node: RayNode) -> None:
        node.ray_id, node.address = ray_node.ray_id, ray_node.address
        node.cpus, node.memory_mib = ray_node.cpus, ray_node.memory_mib
        self._record(node)
        text = (
            f"Ray starts the node's agent on {ray_node.address}. It takes the machine whole, so it waits for other "
            "programs of Ray that have CPUs or GPUs there."
        )
        node.reason = Reason(ReasonCode.NODE_STARTING, text, {"address": ray_node.address})
        self._keep(node, ray_node)
        self._on_changed()

    def _record(self, node: HeldNode) -> None:
        write_durably(self._places.nodes / f"{node.node_id}.json", node.record())

    def _keep(self, node: HeldNode, ray_node: RayNode) -> None:
        node.task = asyncio.create_task(self._keep_agent(node, ray_node), name=f"node {node.node_id}")

    async def _keep_agent(self, node: HeldNode, ray_node: RayNode) -> None:
        """As long as the Ray node lives and the node is wanted: an agent that dies is replaced, which is a new boot."""
        pause, tries = RESTART_FIRST, 0
        while not node.removing and not self._closing:
            boot = node.boot
            try:
                await self._live_with(node, ray_node)
                why = "its processes ended"
            except asyncio.CancelledError:
                raise
            except Exception as error:  # Ray has many, and all mean that the agent is of no use.
                if self._is_superseded(error):
                    return
                why = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            node.run = ""
            if node.removing or self._closing:
                return
            if node.agent is not None:
                with suppress(Exception):
                    await asyncio.to_thread(self._ray.end, node.agent)
                node.agent = None
            print(f"node {node.node_id} on {node.address}: {why}", file=sys.stderr, flush=True)
            tries = 0 if node.condition is NodeCondition.READY else tries + 1
            node.known.set()
            if ray_node.ray_id not in {alive.ray_id for alive in self._alive}:
                return
            node.condition = NodeCondition.PREPARING
            text = f"The agent of node {node.node_id} on {node.address} ended ({why}); it is started again."
            node.reason = Reason(ReasonCode.NODE_STARTING, text, {"node": node.node_id})
            if tries >= START_TRIES:
                node.condition = NodeCondition.UNUSABLE
                text = f"The agent of node {node.node_id} on {node.address} ended {tries} times in a row ({why})."
                node.reason = Reason(ReasonCode.NODE_KEEPS_DYING, text, {"node": node.node_id})
                self.on_gone(node.node_id)
                self._on_changed()
                return
            self._on_changed()
            pause = RESTART_FIRST if node.boot != boot else min(RESTART_LIMIT, pause * 2)
            self._awake.set()  # Perhaps the Ray node died, which Ray says soon.
            await asyncio.sleep(pause)

    async def _live_with(self, node: HeldNode, ray_node: RayNode) -> None:
        """Returns when the node's processes have ended; raises what Ray raises when its agent has."""
        layout = self._places.node(node.node_id)
        log = str(layout.home.with_suffix(".log"))
        node.coming = self._do(
            asyncio.to_thread(self._ray.hold, node.node_id, ray_node, self._program, layout.mark, log)
        )
        agent = node.agent = await asyncio.shield(node.coming)
        node.coming = None
        node.gpu_devices = tuple(await agent.gpus.remote())
        cluster = self.clusters[node.cluster_uid]
        while not await agent.begin.remote(self._leader, self._configuration(node, cluster), self._secret(cluster)):
            if node.removing:
                return
            text = "The node waits for the secrets of its setup, which the service gives again."
            node.reason = Reason(ReasonCode.NODE_STARTING, text)
            node.known.set()
            await asyncio.sleep(_LOOK_SOON)
        seen = 0
        while True:
            seen, state = await agent.watch.remote(seen)
            if state and "run" in state:
                self._heard(node, state)
            if state and state.get("over"):
                return

    def _configuration(self, node: HeldNode, cluster: Message) -> Message:
        layout = self._places.node(node.node_id)
        return {
            **{name: value for name, value in node.record().items() if name not in ("ray_id", "cluster_uid")},
            "cluster": {name: cluster[name] for name in ("uid", "node_setup", "setup_suffix", "volumes")},
            "home": str(layout.home),
            "shared": str(self._places.directory),
            "mark": layout.mark,
        }

    def _secret(self, cluster: Message) -> Message | None:
        if cluster["has_secrets"]:
            return self._secrets.get(cluster["uid"])
        return {"setup_secrets": {}, "private": {}}

    def _heard(self, node: HeldNode, state: Message) -> None:
        node.run = state["run"]
        if not node.removing:
            node.condition = NodeCondition(state["condition"])
            node.reason = Reason.from_json(state["reason"]) if state["reason"] else None
        if node.boot != state["boot"]:
            node.boot = state["boot"]
            self._record(node)
        self.on_parts(node, state["parts"])
        node.known.set()
        self._on_changed()

    def _gone(self, node: HeldNode, death: Death | None) -> None:
        code, why = ReasonCode.NODE_LOST, "died"
        if death is None:
            # Of nobody who is there: Ray remembers the deaths of its nodes for as long as its head lives.
            code, why = ReasonCode.NODE_DAEMON_LOST, "is no longer known to Ray, whose head was started anew"
            self._rejoining_until = time.monotonic() + _REJOIN_SECONDS
        elif death.wanted:
            code, why = ReasonCode.NODE_EVICTED, "was ended by whoever provides it"
        said = f" (Ray: {death.text.strip().rstrip('.')})" if death is not None and death.text.strip() else ""
        text = f"Ray's node at {node.address}, which was node {node.node_id}, {why}{said}."
        node.condition = NodeCondition.EVICTED if code is ReasonCode.NODE_EVICTED else NodeCondition.LOST
        node.reason = Reason(code, text, {"node": node.node_id, "address": node.address})
        print(text, file=sys.stderr, flush=True)
        node.known.set()
        node.agent = None
        if node.task is not None:
            node.task.cancel()
        self.on_gone(node.node_id)
        self._on_changed()

    async def _ask_autoscaler(self) -> None:
        wanted = [
            Wanted.of(self.clusters[node.cluster_uid])
            for node in self.nodes.values()
            if not node.removing and not node.is_gone
        ]
        asked = request(wanted)
        if self._autoscale and asked != self._requested:
            async with asyncio.timeout(LOOK_PATIENCE):
                await asyncio.to_thread(self._ray.request, *asked)
            self._requested = asked

    # What the service asks for.

    def ensure_cluster(self, cluster: Message, secret: Message) -> None:
        """Make it known."""
        record = {**cluster, "has_secrets": any(secret.values())}
        if record["has_secrets"]:
            self._secrets[cluster["uid"]] = secret
        if record != self.clusters.get(cluster["uid"]):
            self._places.mount_root(cluster["uid"]).mkdir(parents=True, exist_ok=True)
            write_durably(self._places.clusters / f"{cluster['uid']}.json", record)
            self.clusters[cluster["uid"]] = record

    def remove_cluster(self, uid: str) -> None:
        """Forget it; its directory stays."""
        self._secrets.pop(uid, None)
        if self.clusters.pop(uid, None) is not None:
            (self._places.clusters / f"{uid}.json").unlink(missing_ok=True)

    async def add(self, cluster: Message, specs: list[Message]) -> None:
        """Want nodes. Raises Refused when there are not so many and nobody can be asked for more.

        After Ray's head was started anew nodes wait for machines instead: those that there were come back, and whoever
        was refused asks again only after longer and longer pauses.
        """
        fresh = [spec for spec in specs if spec["node_id"] not in self.nodes]
        if not self._autoscale and fresh and time.monotonic() > self._rejoining_until:
            await self.look()
            fresh = [spec for spec in fresh if spec["node_id"] not in self.nodes]
            waiting = sum(not node.ray_id and node.cluster_uid == cluster["uid"] for node in self.nodes.values())
            why = shortage(self._alive, self._held(), Wanted.of(cluster), len(fresh) + waiting)
            if why:
                why = f"Cluster {cluster['name']}: {why}"
                raise Refused(Reason(ReasonCode.ALLOCATION_FAILED, why, {"cluster": cluster["name"]}))
        for spec in fresh:
            node = HeldNode(
                spec["node_id"], cluster["uid"], spec["ordinal"], host_name(cluster["name"], spec["ordinal"])
            )
            text = "The node waits for a free machine of Ray: join one with `ray start`."
            if self._autoscale:
                text = "The node waits for a machine, which Ray's autoscaler was asked for."
            node.reason = Reason(ReasonCode.NODE_STARTING, text)
            self.nodes[node.node_id] = node
            self._record(node)
        self._awake.set()
        if fresh:
            self._on_changed()

    def remove(self, node_ids: list[str]) -> None:
        """End nodes; their machines are free for others afterwards."""
        for node in filter(None, map(self.nodes.get, node_ids)):
            if not node.removing:
                node.removing = True
                self._do(self._let_go(node, forget=True))

    async def _let_go(self, node: HeldNode, forget: bool) -> None:
        if node.task is not None and node.agent is None:
            node.task.cancel()
        agent = node.agent
        if agent is None and node.coming is not None and not node.is_gone:
            with suppress(Exception):  # It was being made just now.
                agent = await node.coming
        if agent is None and node.ray_id and not node.is_gone:
            with suppress(Exception):
                agent = await asyncio.to_thread(self._ray.find, node.node_id)
        if agent is not None:
            try:
                async with asyncio.timeout(_LEAVE_PATIENCE):
                    await agent.leave.remote(self._leader)
                    if node.task is not None:
                        await asyncio.wait([node.task])  # The node's last words.
            except Exception as error:  # It is dead, or does not answer: it is ended as it is.
                if self._is_superseded(error):
                    return
            with suppress(Exception):
                await asyncio.to_thread(self._ray.end, agent)
        if node.task is not None:
            node.task.cancel()
        self.on_gone(node.node_id)
        if forget:
            self.nodes.pop(node.node_id, None)
            (self._places.nodes / f"{node.node_id}.json").unlink(missing_ok=True)
        else:
            node.ray_id, node.agent, node.task = "", None, None
            self._record(node)
        self._awake.set()
        self._on_changed()

    async def close(self) -> None:
        """End every node, keeping what is recorded of it; machines that were asked for are no longer."""
        self._closing = True
        for node in self.nodes.values():
            node.removing = True
        await asyncio.gather(*(self._let_go(node, forget=False) for node in list(self.nodes.values())))
        await self._ask_autoscaler()

    # How gangs reach their nodes.

    def tell(self, node: HeldNode, message: Message) -> asyncio.Task[bool]:
        """Pass a message to the node's warden; whether its agent has it."""
        return self._do(self._tell(node, message))

    async def free_ports(self, node: HeldNode, candidates: list[int]) -> list[int]:
        """Those that are free there; none when it does not answer."""
        with suppress(Exception):
            async with asyncio.timeout(LOOK_PATIENCE):
                return list(await node.agent.free_ports.remote(node.address, candidates))
        return []

    async def _tell(self, node: HeldNode, message: Message) -> bool:
        """One after the other: Ray gives calls to such actors in any order."""
        async with node.line:
            if node.agent is None:
                return False
            try:
                async with asyncio.timeout(LOOK_PATIENCE):
                    await node.agent.tell.remote(self._leader, message)
            except Exception as error:  # An agent that is dead is noticed elsewhere.
                self._is_superseded(error)
                return False
            return True

    def _is_superseded(self, error: Exception) -> bool:
        """Whether an agent turned us away for a later leader: then nothing is ours to end. Ray names such errors
        ``RayTaskError(Superseded)``.
        """
        found = "Superseded" in type(error).__name__
        if found:
            self._superseded = True
            self._awake.set()
        return found

    def _do(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
