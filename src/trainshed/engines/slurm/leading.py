"""Who may use an engine's directory: one service, and of its processes the one that controls (``protocol.Leader``)."""

from __future__ import annotations

import fcntl
import os

from trainshed.engines.protocol import EngineUnavailable, Leader
from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.places import Places
from trainshed.resources.reasons import Reason, ReasonCode


def take_lead(root: Places, leader: Leader) -> None:
    """Note under which lease the engine is used. Raises EngineUnavailable under an older one, OSError."""
    lock = os.open(root.root / "leader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = places.read(root.leader)
        if known == {"database": leader.database, "token": leader.token}:
            return
        if known is not None and known["database"] == leader.database and known["token"] > leader.token:
            raise EngineUnavailable(
                Reason(
                    ReasonCode.NO_ACTIVE_CONTROLLER,
                    "Another process of the service has taken over; this one hands nothing over any more.",
                )
            )
        places.write(root.leader, {"database": leader.database, "token": leader.token}, durable=True)
    finally:
        os.close(lock)


def claim_directory(root: Places, home: str) -> None:
    """Two services in one directory would end each other's jobs. Raises EngineUnavailable, OSError."""
    if not home:
        return
    owner = root.root / "home.json"
    known = places.read(owner)
    if known is None:
        places.write(owner, home, durable=True)
    elif known != home:
        raise EngineUnavailable(
            Reason(
                ReasonCode.ENGINE_UNAVAILABLE,
                f"The directory {root.root} belongs to the service with the home {known}, and this one has {home}. "
                f"Give each service a directory of its own; if the home was moved, remove {owner}.",
                {"directory": str(root.root), "home": str(known)},
            )
        )
