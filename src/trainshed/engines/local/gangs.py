"""The daemon's gangs: started on all their nodes or on none, stopped, concluded, kept until they are forgotten."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainshed.engines.local.disk import DiskGuard, Writer
from trainshed.engines.local.gang import (
    Gang,
    daemon_lost,
    node_lost,
    node_removed,
    runner_lost,
    service_stopped,
)
from trainshed.engines.local.layout import Layout
from trainshed.engines.local.messages import Message
from trainshed.engines.local.nodes import NodeKeeper
from trainshed.engines.local.record import LocalNode
from trainshed.engines.local.wire import Refused, runner_specs
from trainshed.engines.protocol import NodeCondition
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.outcome import read as read_outcome
from trainshed.runner.spec import Outcome

#: Seconds beyond the grace that runners have to end by themselves.
_STOP_MARGIN = 5.0
#: Grace in seconds for the other parts of a gang when one is lost.
_LOSS_GRACE = 5.0


class GangKeeper:
    """All gangs that are not forgotten, and which node is busy with which."""

    def __init__(self, layout: Layout, keeper: NodeKeeper, on_ended: Callable[[Gang], None]) -> None:
        self._layout = layout
        self._keeper = keeper
        self._on_ended = on_ended
        self._gangs: dict[str, Gang] = {}
        self._busy: dict[str, str] = {}
        self._closing = False
        self._none_runs = asyncio.Event()
        self._disk = DiskGuard(
            layout.home, self._writers, lambda attempt_id, reason: self.stop(attempt_id, reason.to_json(), 0.0)
        )

    def recover(self) -> None:
        """What a former daemon left. Nothing of it lives: it ended with a durable word, or was lost with the daemon."""
        for folder in sorted(self._layout.attempts().iterdir()):
            try:
                node_ids = tuple(json.loads((folder / "gang.json").read_text())["node_ids"])
            except (OSError, ValueError, KeyError):
                # The power went before the file was whole: only the master's word can tell.
                node_ids = ("unknown",)
            gang = Gang(folder.name, node_ids)
            words = [self._durable_word(gang, index) for index in range(len(node_ids))]
            if None in words:
                gang.loss = daemon_lost(node_ids)
            for node_id, word in zip(node_ids, words, strict=True):
                gang.part_ended(node_id, word)
            self._gangs[gang.attempt_id] = gang

    def statuses(self) -> list[dict[str, Any]]:
        """All of them, as sent to the service."""
        return [gang.status() for gang in self._gangs.values()]

    def start(self, spec: Message, job_secrets: dict[str, str], private: dict[str, str]) -> None:
        """Start a gang, unless it is known already. Raises Refused when a node cannot take it; nothing runs then."""
        attempt_id = spec["attempt_id"]
        if attempt_id in self._gangs:
            return
        members = [self._ready_node(node_id) for node_id in spec["node_ids"]]
        parts = runner_specs(spec, members, self._layout)
        user = spec.get("user")
        gang = Gang(
            attempt_id,
            tuple(spec["node_ids"]),
            segment=spec["segment"],
            uid=user["uid"] if user else os.geteuid(),
        )
        folder = self._layout.attempt(attempt_id)
        folder.mkdir(mode=0o700)
        (folder / "gang.json").write_text(json.dumps({"node_ids": list(gang.node_ids)}))
        self._gangs[attempt_id] = gang
        token = secrets.token_hex(16)
        for node, part in zip(members, parts, strict=True):
            self._busy[node.node_id] = attempt_id
            self._keeper.tell(node, {"start": part, "secrets": job_secrets, "private": private, "token": token})
        self._disk.watch()

    def _writers(self) -> list[Writer]:
        return [
            Writer(
                gang.attempt_id,
                tuple(self._layout.node(node_id) for node_id in gang.running),
                self._layout.mount_root(nodes[0].cluster_uid),
                gang.segment,
                tuple(node.pid for node in nodes if node.pid),
                gang.started_at,
                gang.uid,
            )
            for gang in map(self._gangs.__getitem__, set(self._busy.values()))
            if (nodes := [node for node in map(self._keeper.nodes.get, gang.running) if node is not None])
        ]

    def _ready_node(self, node_id: str) -> LocalNode:
        node = self._keeper.nodes.get(node_id)
        if node is None or node.condition is not NodeCondition.READY or not node.pid or node.removing or self._closing:
            raise Refused(
                Reason(
                    ReasonCode.NODE_NOT_READY,
                    f"Node {node_id} is not ready, so the attempt was not started on any node.",
                    {"node": node_id},
                )
            )
        if node_id in self._busy:
            raise Refused(
                Reason(
                    ReasonCode.NODE_NOT_READY,
                    f"Node {node_id} still runs attempt {self._busy[node_id]}, so this one was not started on any "
                    "node.",
                    {"node": node_id, "attempt": self._busy[node_id]},
                )
            )
        return node

    def stop(self, attempt_id: str, reason: dict[str, Any], grace: float) -> None:
        """Ask the runners to end it; make them when they have not in time."""
        gang = self._gangs.get(attempt_id)
        if gang is None or gang.final is not None or gang.stop_reason is not None:
            return
        gang.stop_reason = reason
        self._stop_parts(gang, reason, grace)

    def _stop_parts(self, gang: Gang, reason: dict[str, Any], grace: float) -> None:
        for node_id in gang.running:
            node = self._keeper.nodes.get(node_id)
            if node is not None:
                self._keeper.tell(node, {"stop": gang.attempt_id, "reason": reason, "grace": grace})
        asyncio.get_running_loop().call_later(grace + _STOP_MARGIN, self._kill, gang)

    async def end_all(self, grace: float) -> None:
        """The daemon ends in good order: every attempt is stopped with a reason that its job is queued again for."""
        self._closing = True
        self._none_runs = asyncio.Event()
        for gang in list(self._gangs.values()):
            if gang.running:
                self.stop(gang.attempt_id, service_stopped().to_json(), grace)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace + 2 * _STOP_MARGIN):
                while self._busy:
                    self._none_runs.clear()
                    await self._none_runs.wait()

    def forget(self, attempt_ids: list[str]) -> None:
        """Drop gangs that have ended, with their files."""
        for attempt_id in attempt_ids:
            gang = self._gangs.get(attempt_id)
            if gang is not None and gang.final is not None:
                del self._gangs[attempt_id]
                shutil.rmtree(self._layout.attempt(attempt_id), ignore_errors=True)

    def node_leaves(self, node: LocalNode) -> None:
        """The node is taken away: whatever runs on it ends on all its nodes."""
        attempt_id = self._busy.get(node.node_id)
        if attempt_id is not None:
            gang = self._gangs[attempt_id]
            gang.loss = gang.loss or node_removed(node.node_id)
            self._kill(gang)

    def part_ended(self, node: LocalNode, message: Message) -> None:
        """A node says that nothing of an attempt lives on it any more."""
        outcome = message["outcome"]
        self._conclude(node, message["ended"], Outcome.from_dict(outcome) if outcome else None)

    def node_lost(self, node: LocalNode) -> None:
        """The node's process died, and nothing of it lives."""
        attempt_id = self._busy.get(node.node_id)
        if attempt_id is None:
            return
        gang = self._gangs[attempt_id]
        # The runner may have come to its end just before: its durable word counts.
        word = self._durable_word(gang, gang.node_ids.index(node.node_id))
        if word is None:
            gang.loss = gang.loss or node_lost(node.node_id)
        self._conclude(node, attempt_id, word)

    def _conclude(self, node: LocalNode, attempt_id: str, outcome: Outcome | None) -> None:
        if self._busy.get(node.node_id) == attempt_id:
            del self._busy[node.node_id]
            self._none_runs.set()
        gang = self._gangs.get(attempt_id)
        if gang is None:
            return
        if outcome is None:
            gang.loss = gang.loss or runner_lost(node.node_id)
        if gang.part_ended(node.node_id, outcome):
            self._on_ended(gang)
        elif outcome is None and gang.loss is not None:
            # They might not notice by themselves: a runner that died early had not yet joined the others.
            self._stop_parts(gang, gang.loss.to_json(), _LOSS_GRACE)

    def _kill(self, gang: Gang) -> None:
        """End the runners that are left; their nodes report when nothing of them lives."""
        for node_id in gang.running:
            node = self._keeper.nodes.get(node_id)
            if node is not None:
                self._keeper.tell(node, {"kill": gang.attempt_id})

    def _durable_word(self, gang: Gang, index: int) -> Outcome | None:
        state: Path = self._layout.attempt(gang.attempt_id) / str(index)
        try:
            return read_outcome(str(state))
        except (OSError, ValueError, TypeError) as error:
            print(f"the outcome in {state} cannot be read: {error}", file=sys.stderr, flush=True)
            return None
