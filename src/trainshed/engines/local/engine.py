"""The service's side of the local engine: finds or starts the node daemon, and speaks with it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.local.messages import encode
from trainshed.engines.protocol import (
    ClusterSpec,
    EngineError,
    EngineUnavailable,
    EngineView,
    GangResult,
    GangSpec,
    GangStatus,
    Listener,
    NodeCondition,
    NodeSpec,
    NodeStatus,
)
from trainshed.resources.reasons import Reason, ReasonCode

#: As in ``wire``, which the daemon's side imports with all that runs on nodes.
_PROTOCOL = 1
_MESSAGE_LIMIT = 64 * 2**20
#: Seconds until a daemon that was started must answer.
_START_PATIENCE = 20.0
_CALL_PATIENCE = 60.0


class LocalEngine:
    """Nodes on this machine (see ``engines.protocol.Engine``)."""

    name = "local"

    def __init__(self, home: Path) -> None:
        self._layout = Layout(home.absolute())
        self._listener: Listener = lambda status: None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)
        self._connection: asyncio.Task[None] | None = None
        self._daemon_pid = 0
        self._closing = False

    async def start(self, listener: Listener) -> None:
        """Connect to the daemon, starting it if there is none. Raises EngineUnavailable with the daemon's last words."""
        self._listener = listener
        self._layout.make()
        reader = await self._connect()
        self._connection = asyncio.create_task(self._stay_connected(reader), name="local-engine")

    async def close(self) -> None:
        """Let go; the daemon goes on."""
        self._closing = True
        if self._connection is not None:
            self._connection.cancel()
            await asyncio.gather(self._connection, return_exceptions=True)
        self._drop()

    async def shut_down(self) -> None:
        """End nodes and daemon; their records stay, so that a later service finds its clusters again."""
        pid = self._daemon_pid
        self._closing = True
        with suppress(EngineError):
            await self._call("shut_down")
        async with asyncio.timeout(_CALL_PATIENCE):
            while _alive(pid):
                await asyncio.sleep(0.02)

    async def view(self) -> EngineView:
        """The whole truth now."""
        told = await self._call("view")
        return EngineView(tuple(map(_node, told["nodes"])), tuple(map(_gang, told["gangs"])))

    async def ensure_cluster(self, cluster: ClusterSpec) -> None:
        """Give the cluster a subnet and its durable directory."""
        await self._call("ensure_cluster", **_cluster(cluster))

    async def remove_cluster(self, cluster_uid: str) -> None:
        """Forget the cluster."""
        await self._call("remove_cluster", uid=cluster_uid)

    async def add_nodes(self, cluster: ClusterSpec, nodes: tuple[NodeSpec, ...]) -> None:
        """Start nodes. Raises EngineError (AllocationFailed) when this machine cannot hold them."""
        await self._call("add_nodes", nodes=[asdict(node) for node in nodes], **_cluster(cluster))

    async def remove_nodes(self, node_ids: tuple[str, ...]) -> None:
        """End nodes."""
        await self._call("remove_nodes", node_ids=list(node_ids))

    async def start_gang(self, gang: GangSpec) -> None:
        """Start an attempt. Raises EngineError (NodeLost) when a node is not there; nothing was started then."""
        spec = {name: getattr(gang, name) for name in _GANG_FIELDS}
        await self._call("start_gang", gang=spec, secrets=gang.secrets)

    async def stop_gang(self, attempt_id: str, reason: Reason, grace_seconds: float) -> None:
        """Ask the attempt's processes to end, then make them."""
        await self._call("stop_gang", attempt_id=attempt_id, reason=reason.to_json(), grace=grace_seconds)

    async def forget_gang(self, attempt_ids: tuple[str, ...]) -> None:
        """Drop outcomes."""
        await self._call("forget", attempt_ids=list(attempt_ids))

    def mount_root(self, cluster_uid: str) -> str | None:
        """The cluster's durable directory."""
        return str(self._layout.mount_root(cluster_uid))

    # The connection.

    async def _call(self, name: str, **arguments: Any) -> Any:
        if self._writer is None:
            raise _unavailable("the node daemon cannot be reached now")
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._writer.write(encode({"id": number, "call": name, **arguments}))
        try:
            async with asyncio.timeout(_CALL_PATIENCE):
                return await answer
        except TimeoutError:
            raise _unavailable(f"the node daemon did not answer {name} within {_CALL_PATIENCE:g} s") from None
        finally:
            self._waiting.pop(number, None)

    async def _stay_connected(self, reader: asyncio.StreamReader) -> None:
        pause = 0.05
        while True:
            await self._read(reader)
            self._drop()
            if self._closing:
                return
            while True:
                try:
                    reader = await self._connect()
                    break
                except (EngineError, OSError) as error:
                    print(f"node daemon: {error}", file=sys.stderr, flush=True)
                    await asyncio.sleep(pause)
                    pause = min(5.0, pause * 2)
            pause = 0.05
            self._listener(None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if "answer" in message:
                    self._settle(message)
                elif "ended" in message:
                    self._listener(_gang(message["ended"]))
                else:
                    self._listener(None)
        except (OSError, ValueError):
            return

    def _settle(self, message: dict[str, Any]) -> None:
        waiting = self._waiting.get(message["answer"])
        if waiting is None or waiting.done():
            return
        if "refused" in message:
            waiting.set_exception(EngineError(Reason.from_json(message["refused"])))
        else:
            waiting.set_result(message["value"])

    def _drop(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_unavailable("the connection to the node daemon was lost"))

    async def _connect(self) -> asyncio.StreamReader:
        """To the daemon that is there, or to one that is started now. Raises EngineUnavailable."""
        started: subprocess.Popen[bytes] | None = None
        deadline = asyncio.get_running_loop().time() + _START_PATIENCE
        while True:
            try:
                return await self._greet()
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                if started is None:
                    started = self._spawn()
                elif started.poll() not in (None, 0) or asyncio.get_running_loop().time() > deadline:
                    raise _unavailable(f"the node daemon does not start: {self._last_words() or error}") from error
                elif started.poll() == 0:
                    started = self._spawn()  # It found another one, which was about to end.
                await asyncio.sleep(0.01)

    async def _greet(self) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_unix_connection(self._layout.socket, limit=_MESSAGE_LIMIT)
        writer.write(encode({"protocol": _PROTOCOL}))
        answer = json.loads(await reader.readline() or b"{}")
        if answer.get("protocol") != _PROTOCOL:
            writer.close()
            if not answer:
                raise ConnectionResetError("the daemon is ending")
            raise _unavailable(
                f"the node daemon of {self._layout.home} is of another version; let its jobs end, then stop it: "
                "trainshed serve --stop-nodes with the version that started it"
            )
        self._writer = writer
        self._daemon_pid = int(answer["pid"])
        return reader

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the daemon in a session of its own. A second one of the same home ends at once by itself."""
        environment = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
        environment[MARK_VARIABLE] = self._layout.mark
        descriptor = os.open(self._layout.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "trainshed.engines.local.daemon", "--home", str(self._layout.home)],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                env=environment,
                start_new_session=True,
                close_fds=True,
                umask=0o022,
            )
        finally:
            os.close(descriptor)

    def _last_words(self) -> str:
        with suppress(OSError):
            return self._layout.log.read_text(errors="replace")[-400:].strip()
        return ""


#: What the service is told by its environment is not for nodes and jobs.
_OWN_VARIABLES = {"TRAINSHED_URL", "TRAINSHED_TOKEN", "TRAINSHED_HOME", "TRAINSHED_VAULT_KEY"}

_GANG_FIELDS = (
    "attempt_id",
    "attempt_number",
    "node_ids",
    "subscription",
    "resource_group",
    "workspace",
    "experiment",
    "job",
    "job_uid",
    "segment",
    "properties",
    "wall_clock_seconds",
    "code_store",
    "code_manifest",
)


def _cluster(cluster: ClusterSpec) -> dict[str, Any]:
    spec = asdict(cluster)
    return {"setup_secrets": spec.pop("setup_secrets"), "cluster": spec}


def _node(told: dict[str, Any]) -> NodeStatus:
    return NodeStatus(
        node_id=told["node_id"],
        cluster_uid=told["cluster_uid"],
        condition=NodeCondition(told["condition"]),
        boot=told["boot"],
        host_name=told["host_name"],
        address=told["address"],
        ssh_port=told["ssh_port"],
        reason=Reason.from_json(told["reason"]) if told["reason"] else None,
    )


def _gang(told: dict[str, Any]) -> GangStatus:
    if "result" not in told:
        return GangStatus(told["attempt_id"])
    return GangStatus(
        attempt_id=told["attempt_id"],
        result=GangResult(told["result"]),
        exit_code=told["exit_code"],
        reason=Reason.from_json(told["reason"]) if told["reason"] else None,
        ended_at=told["ended_at"],
    )


def _unavailable(what: str) -> EngineUnavailable:
    return EngineUnavailable(
        Reason(
            ReasonCode.ENGINE_UNAVAILABLE, f"{what[0].upper()}{what[1:]}. It is tried again; see `trainshed doctor`."
        )
    )


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False
