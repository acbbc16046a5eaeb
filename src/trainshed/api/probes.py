"""Whether the service lives, and whether it can do its work."""

from __future__ import annotations

from sqlalchemy import text
from starlette.responses import Response

from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.store.errors import StoreError


async def health(call: Call) -> Response:
    """GET /healthz: 200 as long as the process answers."""
    return answer({"status": "ok"})


async def readiness(call: Call) -> Response:
    """GET /readyz: 200 when the database can be read and the engine is connected, else 503 saying what is not."""
    checks = {"database": "ok", "engine": "ok"}
    try:
        await call.read(lambda tx: tx.execute(text("SELECT 1")).scalar())
    except StoreError as error:
        checks["database"] = f"cannot be read: {error}"
    if not call.services.engine_available():
        checks["engine"] = "not connected; the service keeps trying, see logs/daemon.log in its home"
    ready = all(value == "ok" for value in checks.values())
    return answer({"status": "ready" if ready else "not ready", **checks}, 200 if ready else 503)
