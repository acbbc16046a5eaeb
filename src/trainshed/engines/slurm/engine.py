"""The service's side of Slurm: the engine protocol, spoken with Slurm's commands and a directory that nodes see too."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from trainshed.engines.protocol import (
    ClusterSpec,
    EngineError,
    EngineTraits,
    EngineUnavailable,
    EngineView,
    FileServerSpec,
    GangSpec,
    GangStatus,
    Leader,
    Listener,
    NodeCondition,
    NodeSpec,
    NodeStatus,
)
from trainshed.engines.slurm import reasons
from trainshed.engines.slurm.delivery import digest
from trainshed.engines.slurm.handing import Handing
from trainshed.engines.slurm.leading import claim_directory, take_lead
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.orders import Cluster, SetupSecrets
from trainshed.engines.slurm.owners import acting_as
from trainshed.engines.slurm.parsing import NodeLine
from trainshed.engines.slurm.records import AttemptRecord, Records
from trainshed.engines.slurm.relay.server import Relay
from trainshed.engines.slurm.settings import InvalidSettings, SlurmSettings
from trainshed.engines.slurm.site import site_of
from trainshed.engines.slurm.watching import Watching
from trainshed.listening import CannotListen
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode

log = structlog.get_logger(__name__)

#: Seconds beyond grace and warning after which an attempt that was told to end is cancelled in Slurm.
_STOP_MARGIN = 15.0
#: Seconds between two looks at the nodes.
_NODES_SECONDS = 15.0
#: Seconds for which what Slurm said last is taken for now.
_FRESH_SECONDS = 0.5
#: Seconds for which a site that could not be reached is taken for away without asking.
_AWAY_SECONDS = 1.0
#: Seconds between two looks at Slurm: after something happened, and when nothing does.
_SOON, _LATE = 0.2, 5.0
#: When Slurm takes long to answer, the next look comes so many times later.
_SHARE = 5.0
#: Seconds in which what happens at about the same time is waited for.
_TOGETHER_SECONDS = 0.02
#: Seconds between two looks at what running attempts wrote.
_FILES_SECONDS = 0.25


class SlurmEngine:
    """A Slurm site (see ``engines.protocol.Engine``)."""

    traits = EngineTraits(queues=True)

    def __init__(
        self,
        name: str,
        settings: SlurmSettings,
        leader: Leader | None = None,
        environment: Mapping[str, str] = os.environ,
        home: str = "",
    ) -> None:
        """``environment``: from which Slurm's commands get what they need (PATH, SLURM_CONF). ``home``: the service's,
        whose directory the shared one is; empty where nobody else can take it for theirs.
        """
        self.name = name
        self._settings = settings
        self._leader = leader
        self._home = home
        self._root = Places(Path(settings.directory or f"{home}/engines/{name}"))
        self._records = Records(self._root)
        self._site = site_of(settings, environment)
        self._clusters: dict[str, Cluster] = {}
        self._setup_secrets: dict[str, SetupSecrets] = {}
        self._nodes: list[NodeLine] = []
        self._nodes_at = 0.0
        self._asked_at = 0.0
        #: Seconds between two looks at Slurm at least.
        self._interval = _SOON
        self._away: Reason | None = None
        self._failed_at = 0.0
        self._ready = False
        self._listener: Listener = lambda status: None
        self._looking = asyncio.Lock()
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        mark = mark_of(self._root)
        self._relay = Relay(self._root, self._records, settings.lease_seconds) if settings.relay else None
        self._handing = Handing(self._root, self._records, self._site, settings, mark, self._relay)
        self._watching = Watching(self._root, self._records, self._site, self._handing, mark)

    async def start(self, listener: Listener) -> None:
        """Find again what was handed over. Does not fail when Slurm is away: then it keeps trying.

        Raises EngineUnavailable when the shared directory cannot be used.
        """
        self._listener = listener
        try:
            await asyncio.to_thread(self._open)
        except OSError as error:
            raise EngineUnavailable(self._unwritable(error)) from error
        await self._listen()
        self._ready = True
        self._loop = asyncio.create_task(self._run(), name=f"engine {self.name}")
        self._wake.set()

    async def _listen(self) -> None:
        listens = self._settings.listens
        if self._relay is None or listens is None:
            return
        try:
            await self._relay.start(*listens)
        except (OSError, CannotListen) as error:
            text = f"Engine {self.name} cannot listen for its nodes at {':'.join(map(str, listens))}: {error}."
            hint = "Set 'report_to' to an address of this machine with a free port, or 'listen' beside it."
            raise EngineUnavailable(Reason(ReasonCode.ENGINE_UNAVAILABLE, f"{text} {hint}")) from error

    def _open(self) -> None:
        self._root.make(passable=bool(self._settings.map))
        claim_directory(self._root, self._home)
        if self._leader is not None:
            take_lead(self._root, self._leader)
        digest()
        self._records.load()
        for folder in self._root.clusters.iterdir():
            known = places.read(self._root.cluster(folder.name))
            if known is not None:
                self._clusters[folder.name] = Cluster(**known)

    async def close(self) -> None:
        """Let go; what was handed over goes on."""
        self._ready = False
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            self._loop = None
        if self._relay is not None:
            await self._relay.close()
        await self._handing.close()
        await self._site.close()

    async def shut_down(self) -> None:
        """Slurm is not the service's to end."""

    async def view(self) -> EngineView:
        """The whole truth, at most half a second old."""
        self._require_ready()
        if self._away is not None and (self._looking.locked() or time.monotonic() - self._failed_at < _AWAY_SECONDS):
            # Whoever asks is not kept waiting for what the loop finds out anyway.
            raise EngineUnavailable(self._away)
        await self._look(_FRESH_SECONDS)
        return EngineView(
            nodes=tuple(self._node_statuses()),
            gangs=tuple(map(self._records.status, list(self._records.attempts.values()))),
            clusters=tuple(self._clusters),
        )

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        """Make its directories. Raises EngineError (AllocationFailed) for options that cannot be."""
        self._require_ready()
        try:
            self._settings.options(cluster.options)
        except InvalidSettings as error:
            raise EngineError(
                Reason(ReasonCode.ALLOCATION_FAILED, f"Cluster {cluster.name} on engine {self.name}: {error}.")
            ) from error
        known = Cluster.of(cluster)
        self._setup_secrets[cluster.uid] = SetupSecrets(cluster.setup_secrets, cluster.private)
        if self._clusters.get(cluster.uid) != known:
            await self._on_disk(self._keep_cluster, known)
            self._clusters[cluster.uid] = known
            self._nodes_at = 0.0
            self._wake.set()

    def _keep_cluster(self, cluster: Cluster) -> None:
        self._root.mount_root(cluster.uid).mkdir(mode=0o755, parents=True, exist_ok=True)
        places.write(self._root.cluster(cluster.uid), asdict(cluster), durable=True)

    async def remove_cluster(self, cluster_uid: str) -> None:
        """Forget it; its durable directory stays."""
        self._require_ready()
        await self._on_disk(self._records.drop_of, cluster_uid)
        self._clusters.pop(cluster_uid, None)
        self._setup_secrets.pop(cluster_uid, None)
        await self._on_disk(self._root.cluster(cluster_uid).unlink, True)
        self._wake.set()

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        """Nodes are Slurm's own: raises EngineError (AllocationFailed)."""
        raise EngineError(
            Reason(
                ReasonCode.ALLOCATION_FAILED,
                f"The nodes of cluster {cluster.name} are those of its partition; Slurm, not Trainshed, adds some.",
            )
        )

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        """Nodes are Slurm's own, so there are none to remove."""

    async def start_gang(self, gang: GangSpec) -> None:
        """Hand it over. Raises EngineError when this site can never run it, EngineUnavailable when it is not kept."""
        at = time.time_ns()
        self._require_ready()
        cluster = self._clusters.get(gang.cluster_uid)
        if cluster is None:
            raise EngineError(
                Reason(
                    ReasonCode.CLUSTER_NOT_FOUND,
                    f"Engine {self.name} has no cluster {gang.cluster or gang.cluster_uid}.",
                )
            )
        setup_secrets = self._setup_secrets.get(cluster.uid)
        if setup_secrets is None:
            if cluster.has_setup:
                text = f"The nodeSetup of cluster {cluster.name} has not been told since the service was started."
                raise EngineUnavailable(Reason(ReasonCode.ENGINE_UNAVAILABLE, text))
            setup_secrets = SetupSecrets()
        known = gang.attempt_id in self._records.attempts
        if not known and self._records.vacant_ticket(gang.job_uid) is not None:
            # Which run of it is next has to be known now.
            await self._look(0.0)
        elif not known and not self._nodes:
            # Addresses and limits are Slurm's; a submission without them is better than none.
            with suppress(EngineUnavailable):
                await self._look(0.0)
        addresses = {node.name: node.address for node in self._nodes if node.address not in ("", node.name)}
        if self._leader is not None:
            await self._on_disk(take_lead, self._root, self._leader)
        most = next((node.minutes for node in self._nodes if self._is_of(cluster, node)), None)
        try:
            ended = await self._handing.start(gang, cluster, setup_secrets, addresses, most, at)
        except OSError as error:
            raise EngineUnavailable(self._unwritable(error)) from error
        if ended is not None:
            self._listener(ended)
        self._wake.set()

    async def stop_gang(
        self, attempt_id: str, reason: Reason, grace_seconds: float, warning: StopWarning | None = None
    ) -> None:
        """Tell its nodes, which look for it several times a second; a queued one is cancelled."""
        self._require_ready()
        record = self._records.attempts.get(attempt_id)
        if record is None or record.final is not None:
            await self._on_disk(self._records.drop_again, attempt_id)
            self._wake.set()
            return
        if record.stop is not None and (warning is not None or not record.stop["warned"]):
            return
        patience = grace_seconds + _STOP_MARGIN + (warning.seconds if warning else 0.0)
        record.stop = {"reason": reason.to_json(), "until": time.time() + patience, "warned": warning is not None}
        told = {
            "stop": reason.to_json(),
            "grace": grace_seconds,
            "warning": warning.to_json() if warning is not None else None,
        }
        try:
            await self._on_disk(self._say, record, told)
        except EngineUnavailable:
            if self._records.owner(record) is None:
                raise
            # Its user has closed the folder: so it is cancelled.
            record.stop["until"] = time.time()
        if self._relay is not None:
            self._relay.tell()
        await self._on_disk(self._records.keep, record)
        self._wake.set()

    def _say(self, record: AttemptRecord, told: dict[str, Any]) -> None:
        with acting_as(self._records.owner(record)):
            places.append(self._root.attempt(record.attempt_id).told, told)

    async def forget_gang(self, attempt_ids: tuple[str, ...]) -> None:
        """Drop outcomes."""
        self._require_ready()
        ended = [one for one in attempt_ids if (r := self._records.attempts.get(one)) is not None and r.final]
        await self._on_disk(self._records.forget, ended)
        self._wake.set()

    async def ensure_file_server(self, server: FileServerSpec) -> None:
        """Slurm has none: raises EngineError (FileServerFailed)."""
        raise EngineError(
            Reason(
                ReasonCode.FILE_SERVER_FAILED,
                f"File server {server.name} cannot be on engine {self.name}: Slurm has none. Use the site's own file "
                "systems, or a file server of the local engine.",
            )
        )

    async def remove_file_server(self, uid: str) -> None:
        """There is none."""

    def mount_root(self, cluster_uid: str) -> str | None:
        """The cluster's durable directory."""
        return str(self._root.mount_root(cluster_uid))

    async def _run(self) -> None:
        """Looks at running attempts' files often, at Slurm soon after something happened and seldom otherwise.

        However much happens, at most once in ``_SOON`` seconds, and longer when Slurm itself takes long.
        """
        pause, due = _SOON, 0.0
        while True:
            running = self._watching.active
            wait = 0.0 if self._watching.untidy else max(0.0, due - time.monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _FILES_SECONDS) if running else wait):
                    await self._wake.wait()
            if self._wake.is_set():
                self._wake.clear()
                pause, due = _SOON, min(due, self._asked_at + self._interval)
                # What comes with it is looked at together.
                await asyncio.sleep(_TOGETHER_SECONDS)
            try:
                if running and self._tell(await self._watching.files()):
                    pause, due = _SOON, min(due, self._asked_at + self._interval)
                if time.monotonic() >= due:
                    changed = await self._look(0.0)
                    pause = _SOON if changed else min(_LATE, pause * 1.5)
                    due = self._next_look(max(pause, self._interval))
                if self._watching.untidy:
                    await self._watching.tidy()
            except EngineUnavailable:
                pause = min(_LATE, max(1.0, pause * 1.5))
                due = self._next_look(pause)
            except Exception:
                # What is known of one job must not end the watch over all others.
                log.exception("a look at Slurm failed", engine=self.name)
                pause = _LATE
                due = self._next_look(pause)

    def _next_look(self, pause: float) -> float:
        """The monotonic second of the next look, if nothing happens before it: without jobs only nodes change."""
        return time.monotonic() + (pause if self._records.tickets else _NODES_SECONDS)

    async def _look(self, max_age: float) -> bool:
        """Ask Slurm, unless that was done so many seconds ago. Whether something changed. Raises EngineUnavailable."""
        async with self._looking:
            if self._away is None and time.monotonic() - self._asked_at < max_age:
                return False
            was_away = self._away
            try:
                changed = await self._look_at_nodes()
                events = await self._watching.look()
            except EngineUnavailable as error:
                self._lost(error.reason)
                raise
            except OSError as error:
                self._lost(self._unwritable(error))
                raise EngineUnavailable(self._unwritable(error)) from error
            self._asked_at = time.monotonic()
            self._interval = min(_LATE, max(_SOON, _SHARE * self._watching.answered_in))
            self._away = None
        if changed or was_away is not None:
            self._listener(None)
        return self._tell(events) or changed

    def _lost(self, reason: Reason) -> None:
        news = self._away is None
        self._away, self._failed_at = reason, time.monotonic()
        if news:
            self._listener(None)

    def _tell(self, events: list[GangStatus | None]) -> bool:
        for event in events:
            self._listener(event)
        return bool(events)

    async def _look_at_nodes(self) -> bool:
        if not self._clusters or time.monotonic() - self._nodes_at < _NODES_SECONDS:
            return False
        before, self._nodes = self._nodes, await self._site.nodes()
        if not self._handing.kill_wait_known:
            self._handing.learn(await self._site.config())
        self._nodes_at = time.monotonic()
        return before != self._nodes

    def _node_statuses(self) -> list[NodeStatus]:
        found = []
        for cluster in self._clusters.values():
            seen = set()
            for node in self._nodes:
                fits = self._is_of(cluster, node) and node.name not in seen
                told = reasons.condition_of(node) if fits else None
                if told is None:
                    continue
                seen.add(node.name)
                condition, reason = told
                found.append(_status(cluster, node, condition, reason))
        return found

    def _is_of(self, cluster: Cluster, node: NodeLine) -> bool:
        """Whether the cluster's jobs may come there: to the partitions that it names, or to the default one."""
        wanted = self._settings.options(cluster.options).of("partition")
        return node.partition.rstrip("*") in wanted.split(",") if wanted else node.partition.endswith("*")

    async def _on_disk(self, act: Callable[..., object], *arguments: object) -> None:
        """In a thread, since the directory may be a slow file system. Raises EngineUnavailable."""
        try:
            await asyncio.to_thread(act, *arguments)
        except OSError as error:
            raise EngineUnavailable(self._unwritable(error)) from error

    def _unwritable(self, error: OSError) -> Reason:
        return Reason(
            ReasonCode.ENGINE_UNAVAILABLE,
            f"The directory {self._root.root} of engine {self.name} cannot be used: {error}. It must be seen, and be "
            "writable, on this machine and on Slurm's nodes.",
            {"directory": str(self._root.root)},
        )

    def _require_ready(self) -> None:
        if not self._ready:
            raise EngineUnavailable(Reason(ReasonCode.ENGINE_UNAVAILABLE, f"Engine {self.name} is not started."))


def mark_of(root: Places) -> str:
    """In the comment of every job: the directory that holds its ticket."""
    return hashlib.sha256(os.fsencode(root.root)).hexdigest()[:12]


def _status(cluster: Cluster, node: NodeLine, condition: NodeCondition, reason: Reason | None) -> NodeStatus:
    name = f"{cluster.node_prefix}{node.name}"
    return NodeStatus(name, cluster.uid, condition, 1, node.name, node.address, None, reason)
