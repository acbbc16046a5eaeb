"""How service processes on one PostgreSQL agree who controls, and wake one another.

Beside the writer, whose queue and lock it must not wait for: one connection for the lease and for notices that are
sent, and one on which notices arrive (LISTEN, NOTIFY). Both are made anew when they break; a notice may be lost then,
so whoever listens has a slow clock too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.errors import LockNotAvailable
from sqlalchemy import URL

from trainshed.store.errors import StoreUnavailable
from trainshed.store.leadership import CONNECTED, NOW, RELEASED, Grant, Taken

CHANNEL = "trainshed"

#: Seconds that connecting may take, and one statement.
_CONNECT, _STATEMENT = 10, 5.0
#: How long a take-over waits for a transaction of the former leader before it is tried again.
_LOCK_TIMEOUT = "2s"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

_MAKE = (
    "INSERT INTO leadership "
    "(id, token, holder, name, acquired_at, renewed_at, expires_at, engine_available) "
    "VALUES (1, 0, '', '', 0, 0, 0, 0) ON CONFLICT DO NOTHING"
)
_ACQUIRE = (
    "UPDATE leadership SET token = token + 1, holder = %(holder)s, name = %(name)s, engine_available = 0, "
    f"acquired_at = {NOW}, renewed_at = {NOW}, expires_at = {NOW} + %(ms)s "
    f"WHERE id = 1 AND (holder = '' OR expires_at <= {NOW}) RETURNING token"
)
_LEFT = f"SELECT greatest(expires_at - {NOW}, 0) FROM leadership WHERE id = 1"
_RENEW = (
    f"UPDATE leadership SET renewed_at = {NOW}, expires_at = {NOW} + %(ms)s, engine_available = %(engine)s "
    "WHERE token = %(token)s AND holder = %(holder)s RETURNING token"
)
_RELEASE = "UPDATE leadership SET holder = '', expires_at = 0 WHERE token = %(token)s AND holder = %(holder)s"
_NOTIFY = "SELECT pg_notify(%(channel)s, %(payload)s)"


class Coordination:
    """One process's part. Methods raise StoreUnavailable when the server does not answer."""

    def __init__(self, url: URL, holder: str, name: str) -> None:
        """``holder`` names this process for the others, ``name`` for people."""
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._holder = holder
        self._name = name
        self._connection: psycopg.AsyncConnection[Any] | None = None
        #: One statement at a time.
        self._turn = asyncio.Lock()

    async def acquire(self, seconds: float) -> Grant | Taken:
        """Take the lease for that long, if nobody holds it."""
        parameters = {"holder": self._holder, "name": self._name, "ms": round(seconds * 1000)}
        try:
            row = await self._one(_ACQUIRE, parameters)
        except LockNotAvailable:
            return Taken(0.0)
        if row is not None:
            return Grant(row[0])
        left = await self._one(_LEFT, {})
        return Taken(0.0 if left is None else left[0] / 1000)

    async def renew(self, token: int, seconds: float, *, engine_available: bool) -> bool:
        """Keep the lease for that long from now; False when it is another's."""
        parameters = {
            "token": token,
            "holder": self._holder,
            "ms": round(seconds * 1000),
            "engine": int(engine_available),
        }
        try:
            return await self._one(_RENEW, parameters) is not None
        except LockNotAvailable:
            raise StoreUnavailable("the lease is being taken over, or locked") from None

    async def release(self, token: int) -> None:
        """Give the lease back, if it is still this process's, and say so."""
        await self._one(_RELEASE, {"token": token, "holder": self._holder})
        await self.notify(RELEASED)

    async def notify(self, payload: str) -> None:
        """Tell every process that listens."""
        await self._one(_NOTIFY, {"channel": CHANNEL, "payload": payload})

    async def listen(self, heard: Callable[[str], None]) -> None:
        """Call ``heard`` with every notice, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            connection = None
            try:
                connection = await self._connect()
                await connection.execute(f"LISTEN {CHANNEL}")
                pause = _FIRST_PAUSE
                heard(CONNECTED)
                async for notice in connection.notifies():
                    heard(notice.payload)
            except (psycopg.Error, OSError, TimeoutError):
                pass
            finally:
                if connection is not None:
                    await _close(connection)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def close(self) -> None:
        """Let go of the connection. Who listens is cancelled by its owner."""
        async with self._turn:
            await self._drop()

    async def _one(self, statement: str, parameters: dict[str, Any]) -> Any:
        """The first row, or None for a statement without rows."""
        async with self._turn:
            try:
                async with asyncio.timeout(_CONNECT + _STATEMENT):
                    if self._connection is None or self._connection.closed:
                        self._connection = await self._connect()
                        await self._connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
                        await self._connection.execute(_MAKE)
                    async with asyncio.timeout(_STATEMENT):
                        cursor = await self._connection.execute(statement, parameters)
                        return await cursor.fetchone() if cursor.description else None
            except LockNotAvailable:
                raise
            except (psycopg.Error, OSError, TimeoutError) as error:
                await self._drop()
                raise StoreUnavailable(f"the database does not answer: {str(error) or 'it takes too long'}") from error
            except BaseException:
                # Cancelled in the middle: what the server still says to that is nobody's.
                await self._drop()
                raise

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=_CONNECT,
            application_name="trainshed-leadership",
            # That the server's machine is gone shows after ten seconds of silence.
            keepalives_idle=5,
            keepalives_interval=1,
            keepalives_count=5,
        )

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close(connection)


async def _close(connection: psycopg.AsyncConnection[Any]) -> None:
    with suppress(psycopg.Error, OSError):
        await connection.close()
