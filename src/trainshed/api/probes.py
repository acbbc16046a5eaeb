"""Whether the service lives, and whether it can do its work."""

from __future__ import annotations

from starlette.responses import Response

from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.control.standing import Role
from trainshed.store import draining
from trainshed.store.errors import StoreError


async def health(call: Call) -> Response:
    """GET /healthz: 200 as long as the process answers."""
    return answer({"status": "ok"})


async def readiness(call: Call) -> Response:
    """GET /readyz: 200 when the database can be read and the engine is connected, else 503 saying what is not.

    Of several processes only the one that leads needs the engine; ``role`` and ``leader`` say who does.
    """
    checks = {"database": "ok", "engine": "ok"}
    told: dict[str, str] = {}
    try:
        standing = await call.read(call.services.standing)
        told["role"] = standing.role.value
        if standing.role is not Role.SOLE:
            told["leader"] = standing.leader or "none; a process that stands by takes over when the last lease ends"
        if await call.read(draining.under_way):
            told["draining"] = "starts no jobs; leaves when those that run have ended"
    except StoreError as error:
        checks["database"] = f"cannot be read: {error}"
    if not call.services.engine_available():
        checks["engine"] = "not connected; the service keeps trying, see logs/daemon.log in its home"
    ready = all(value == "ok" for value in checks.values())
    return answer({"status": "ready" if ready else "not ready", **checks, **told}, 200 if ready else 503)
