"""A gang as the daemon keeps it: which runners it has, what each said at its end, and what that makes of the whole."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from trainshed.engines.protocol import GangResult
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.spec import Outcome


@dataclass(slots=True)
class Gang:
    """One attempt on this machine. ``outcomes`` holds an entry for each node whose part has ended."""

    attempt_id: str
    node_ids: tuple[str, ...]
    outcomes: dict[str, Outcome | None] = field(default_factory=dict)
    #: Why a stop was asked for.
    stop_reason: dict[str, Any] | None = None
    #: Its processes have been warned and go on for a while.
    warned: bool = False
    #: Why a part was lost, when that is known better than "its runner died".
    loss: Reason | None = None
    final: dict[str, Any] | None = None
    #: Below the cluster's directory, what is this job's own; Unix seconds of the start; and whose files it makes.
    segment: str = ""
    started_at: float = field(default_factory=time.time)
    uid: int = 0

    @property
    def running(self) -> tuple[str, ...]:
        """Nodes on which something of it may live."""
        return tuple(node for node in self.node_ids if node not in self.outcomes)

    def status(self) -> dict[str, Any]:
        """As sent to the service: ``final`` or a gang that is alive."""
        return self.final or {"attempt_id": self.attempt_id}

    def part_ended(self, node_id: str, outcome: Outcome | None) -> bool:
        """One node's part is over. True when that made the whole gang end."""
        if node_id in self.node_ids:
            self.outcomes.setdefault(node_id, outcome)
        if self.running or self.final is not None:
            return False
        self.final = self._conclude()
        return True

    def _conclude(self) -> dict[str, Any]:
        """The master's durable word decides; without it the attempt was stopped or lost.

        Where a part died, the daemon knows why; the master saw only that its connection broke.
        """
        word = self.outcomes[self.node_ids[0]] or Outcome(GangResult.LOST.value, ended_at=time.time_ns() // 1_000_000)
        result, reason = GangResult(word.result), word.reason
        if result is GangResult.STOPPED and self.stop_reason is None and self.loss is not None:
            result = GangResult.LOST  # Nobody asked for it but the daemon, after another part was lost.
        if result is GangResult.FAILED and None in self.outcomes.values():
            # With a part gone the rest fails in all sorts of ways (mpirun's exit code, a broken connection).
            result = GangResult.LOST
        if result is GangResult.LOST:
            if self.stop_reason is not None:
                result, reason = GangResult.STOPPED, self.stop_reason
            elif self.loss is not None or reason is None:
                reason = (self.loss or runner_lost(self.node_ids[0])).to_json()
        limited = self.stop_reason is not None and self.stop_reason["code"] == ReasonCode.JOB_DISK_LIMIT_EXCEEDED
        if limited and result in (GangResult.STOPPED, GangResult.LOST):
            # The job is to blame, and would do it again.
            result, reason = GangResult.FAILED, self.stop_reason
        return {
            "attempt_id": self.attempt_id,
            "result": result.value,
            "exit_code": None if result is GangResult.LOST else word.exit_code,
            "reason": reason,
            "ended_at": word.ended_at,
            "container": word.container,
        }


def runner_lost(node_id: str) -> Reason:
    """For attempts one of whose runners died while its node lives on."""
    return Reason(
        ReasonCode.RUNNER_LOST,
        f"The runner of the attempt on node {node_id} died without an outcome; everything that it had started was "
        "ended. The job is queued again.",
        {"node": node_id},
    )


def daemon_lost(node_ids: tuple[str, ...]) -> Reason:
    """For attempts that were alive when the daemon died."""
    return Reason(
        ReasonCode.NODE_DAEMON_LOST,
        f"The node daemon died while the attempt ran on {', '.join(node_ids)}; all its processes were ended. "
        "The job is queued again.",
        {"nodes": ",".join(node_ids)},
    )


def node_lost(node_id: str) -> Reason:
    """For attempts on a node whose process died."""
    return Reason(
        ReasonCode.NODE_LOST,
        f"Node {node_id} died while the attempt ran on it; all its processes were ended. The job is queued again.",
        {"node": node_id},
    )


def service_stopped() -> Reason:
    """For attempts that ran when the daemon was told to end with its nodes."""
    return Reason(
        ReasonCode.ENGINE_STOPPED,
        "The service was stopped together with its nodes while the attempt ran; the job is queued again.",
    )


def node_removed(node_id: str) -> Reason:
    """For attempts on a node that was taken away."""
    return Reason(
        ReasonCode.NODE_LOST,
        f"Node {node_id} was removed while the attempt ran on it; all its processes were ended. "
        "The job is queued again.",
        {"node": node_id},
    )
