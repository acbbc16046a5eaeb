"""The service's connection to the bridge: starts it, matches answers to calls, starts another when it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from trainshed.engines.local.messages import MESSAGE_LIMIT, Message, encode
from trainshed.engines.protocol import EngineError, EngineUnavailable
from trainshed.resources.reasons import Reason, ReasonCode

#: Seconds that a call may take: ending all nodes writes their volumes.
_CALL_PATIENCE = 180.0
#: Seconds between the end of one bridge and the start of the next: the first and the longest pause.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Seconds for which an engine that starts waits to hear whether Ray is there.
_FIRST_PATIENCE = 20.0
#: Seconds for a bridge to end by itself when the service lets go.
_END_PATIENCE = 5.0
#: Bytes of the bridge's log after which the next bridge begins another; one former one is kept.
_LOG_LIMIT = 16 * 2**20

log = logging.getLogger(__name__)


class BridgeLink:
    """A bridge that is always there or about to be. ``on_message`` hears what it says unasked; ``on_ready`` is awaited
    after every start.
    """

    def __init__(
        self,
        config: Message,
        environment: Mapping[str, str],
        log_file: Path,
        on_message: Callable[[Message], None],
        on_ready: Callable[[], Awaitable[None]],
    ) -> None:
        self._config, self._environment, self._log_file = config, environment, log_file
        self._on_message, self._on_ready = on_message, on_ready
        self._writer: asyncio.StreamWriter | None = None
        self._ready = False
        self._why = "its bridge is starting"
        #: It is known whether Ray is there.
        self._told = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)
        self._keeping: asyncio.Task[None] | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the bridge; 0 while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def open(self) -> None:
        """Start the bridge and keep one from now on. Waits a while for Ray, and does not mind when it is away."""
        self._keeping = asyncio.create_task(self._keep(), name="ray-engine")
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_PATIENCE):
                await self._told.wait()

    async def close(self) -> None:
        """End the bridge; nodes and gangs go on."""
        for task in filter(None, (self._keeping, self._greeting)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._end()

    async def call(self, name: str, **arguments: Any) -> Any:
        """Ask the bridge and return its answer. Raises EngineUnavailable, and EngineError when it refuses."""
        if not self._ready or self._writer is None:
            raise _unavailable(self._why)
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.write(encode({"id": number, "call": name, **arguments}))
            async with asyncio.timeout(_CALL_PATIENCE):
                return await answer
        except TimeoutError:
            raise _unavailable(f"its bridge did not answer {name} within {_CALL_PATIENCE:g} s") from None
        except OSError as error:
            raise _unavailable(f"its bridge went away: {error}") from error
        finally:
            self._waiting.pop(number, None)

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            reader = await self._start()
            was_ready = await self._listen(reader)
            await self._end()
            pause = _FIRST_PAUSE if was_ready else min(_LONGEST_PAUSE, pause * 2)
            self._on_message({"changed": True})
            await asyncio.sleep(pause)

    async def _start(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if self._log_file.stat().st_size > _LOG_LIMIT:
                self._log_file.rename(f"{self._log_file}.1")
        descriptor = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [sys.executable, "-m", "trainshed.engines.ray.bridge", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                env=dict(self._environment),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(descriptor)
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=MESSAGE_LIMIT)
        self._writer.write(encode(self._config))
        return reader

    async def _listen(self, reader: asyncio.StreamReader) -> bool:
        """Until the bridge ends. Whether it had reached Ray."""
        was_ready, self._why = False, "its bridge is starting"
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                message = json.loads(line)
                if "answer" in message:
                    self._settle(message)
                elif "ready" in message:
                    self._ready = was_ready = True
                    self._told.set()
                    self._greeting = asyncio.create_task(self._greet())
                elif "away" in message:
                    self._why = message["away"]
                    self._told.set()
                    log.warning("engine is away: %s", self._why)
                else:
                    self._on_message(message)
        if was_ready and self._why == "its bridge is starting":
            self._why = f"its bridge to Ray ended; another is starting (see {self._log_file})"
        self._ready = False
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_unavailable(self._why))
        return was_ready

    async def _greet(self) -> None:
        with suppress(EngineError):
            await self._on_ready()

    def _settle(self, message: Message) -> None:
        answer = self._waiting.get(message["answer"])
        if answer is None or answer.done():
            return
        if "refused" in message:
            answer.set_exception(EngineError(Reason.from_json(message["refused"])))
        elif "away" in message:
            answer.set_exception(_unavailable(message["away"]))
        else:
            answer.set_result(message["value"])

    async def _end(self) -> None:
        """The bridge ends when its line is cut; made to when it has not in time."""
        self._ready = False
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        process, self._process = self._process, None
        if process is None:
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_END_PATIENCE):
                await loop.run_in_executor(None, process.wait, _END_PATIENCE)
        except (TimeoutError, subprocess.TimeoutExpired):
            process.send_signal(signal.SIGKILL)
            await loop.run_in_executor(None, process.wait)


def _unavailable(what: str) -> EngineUnavailable:
    text = f"The Ray engine is away: {what}. It is tried again; see `trainshed doctor`."
    return EngineUnavailable(Reason(ReasonCode.ENGINE_UNAVAILABLE, text))
