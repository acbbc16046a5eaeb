"""The service's connection to the node daemon: finds or starts it, matches answers to calls, mends itself."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from typing import Any

from trainshed.engines.local.layout import Layout
from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.local.messages import MESSAGE_LIMIT, PROTOCOL, Message, encode
from trainshed.engines.protocol import EngineError, EngineUnavailable, Leader
from trainshed.resources.reasons import Reason, ReasonCode

#: Seconds until a daemon that was started must answer, and until one that is there must greet.
_START_PATIENCE, _GREET_PATIENCE = 20.0, 5.0
_CALL_PATIENCE = 60.0
#: Seconds between attempts to connect: the first and the longest pause.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_LOOK_AGAIN = 0.01
#: What the service is told by its environment is not for nodes and jobs.
OWN_VARIABLES = {
    "TRAINSHED_URL",
    "TRAINSHED_TOKEN",
    "TRAINSHED_HOME",
    "TRAINSHED_VAULT_KEY",
    "TRAINSHED_DATABASE_URL",
    "TRAINSHED_TLS_KEY_PASSWORD",
    "TRAINSHED_KEYVAULT",
}

log = logging.getLogger(__name__)


class Link:
    """A connection that mends itself. ``on_message`` hears what the daemon says unasked; ``on_again`` is awaited after
    every reconnection.
    """

    def __init__(
        self,
        layout: Layout,
        on_message: Callable[[Message], None],
        on_again: Callable[[], Awaitable[None]],
        leader: Leader | None = None,
    ) -> None:
        self._layout = layout
        self._greeting: Message = {"protocol": PROTOCOL, "leader": asdict(leader) if leader is not None else None}
        self._on_message = on_message
        self._on_again = on_again
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count(1)
        self._staying: asyncio.Task[None] | None = None
        self._again: asyncio.Task[None] | None = None
        self._daemon_pid = 0
        self._started: subprocess.Popen[bytes] | None = None
        self._closing = False

    async def open(self) -> None:
        """Connect, starting the daemon if there is none. Raises EngineUnavailable with its last words."""
        try:
            self._layout.make()
        except OSError as error:
            raise _unavailable(f"the node daemon has no place for its files: {error}") from error
        reader = await self._connect()
        self._staying = asyncio.create_task(self._stay_connected(reader), name="local-engine")

    async def close(self) -> None:
        """Let go; the daemon goes on."""
        self._closing = True
        tasks = [task for task in (self._staying, self._again) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._drop()

    async def end_daemon(self) -> None:
        """Ask the daemon to end and see that it has. Raises EngineUnavailable when it does not end in time."""
        self._closing = True
        if self._writer is None:
            await self._connect_to_end()
        self._end_the_late_one()
        if self._writer is None:
            return
        try:
            process = os.pidfd_open(self._daemon_pid)
        except ProcessLookupError:
            return
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(process, ended.set)
        try:
            # Its end is the answer.
            self._writer.write(encode({"id": next(self._numbers), "call": "shut_down"}))
            async with asyncio.timeout(_CALL_PATIENCE):
                await ended.wait()
        except TimeoutError:
            raise _unavailable(f"the node daemon (pid {self._daemon_pid}) did not end in time") from None
        finally:
            loop.remove_reader(process)
            os.close(process)
        if self._started is not None:
            self._started.poll()

    async def _connect_to_end(self) -> None:
        """In the middle of a reconnection: a daemon that is only starting is there all the same."""
        if self._staying is not None:
            self._staying.cancel()
            await asyncio.gather(self._staying, return_exceptions=True)
        with suppress(EngineError, OSError):
            await self._connect()

    def _end_the_late_one(self) -> None:
        """A daemon that was started beside another one and did not see it yet would take its place."""
        late = self._started
        if late is not None and late.pid != self._daemon_pid and late.poll() is None:
            late.kill()
            late.wait()

    async def call(self, name: str, **arguments: Any) -> Any:
        """Ask the daemon and return its answer. Raises EngineUnavailable, and EngineError when it refuses."""
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
        while True:
            await self._read(reader)
            self._drop()
            if self._closing:
                return
            reader = await self._connect_again()
            # In a task of its own: it asks the daemon, whose answers are read here.
            self._again = asyncio.create_task(self._say_again())

    async def _connect_again(self) -> asyncio.StreamReader:
        pause, said = _FIRST_PAUSE, ""
        while True:
            try:
                return await self._connect()
            except (EngineError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("node daemon: %s", said)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)

    async def _say_again(self) -> None:
        try:
            await self._on_again()
        except EngineUnavailable:
            pass  # The connection is gone once more: the next one says it.
        except Exception:
            log.exception("after reconnecting to the node daemon")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await reader.readline()
                if not line:
                    return
                message = json.loads(line)
            except (OSError, ValueError):
                return
            try:
                if "answer" in message:
                    self._settle(message)
                else:
                    self._on_message(message)
            except Exception:
                # One word that is not understood must not silence all that follow.
                log.exception("a message of the node daemon")

    def _settle(self, message: Message) -> None:
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
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_PATIENCE
        spawned = False
        while True:
            try:
                return await self._greet()
            except (OSError, ValueError) as error:
                # One that was started before may still be on its way: a second one would outlive its end.
                status = 0 if self._started is None else self._started.poll()
                # One that is starting takes whatever carries the home's mark for a leftover, ours too, and kills it.
                killed = status is not None and status < 0 and loop.time() < deadline
                if status == 0 or killed or (status is not None and not spawned):
                    # The former one has ended, or found another daemon there, which was about to end.
                    self._started = self._spawn()
                    spawned = True
                elif status is not None or loop.time() > deadline:
                    raise _unavailable(f"the node daemon does not start: {self._last_words() or error}") from error
                await asyncio.sleep(_LOOK_AGAIN)

    async def _greet(self) -> asyncio.StreamReader:
        async with asyncio.timeout(_GREET_PATIENCE):
            reader, writer = await asyncio.open_unix_connection(self._layout.socket, limit=MESSAGE_LIMIT)
            try:
                writer.write(encode(self._greeting))
                line = await reader.readline()
                if not line:
                    raise ConnectionResetError("the daemon is ending")
                answer = json.loads(line)
                if answer.get("protocol") != PROTOCOL:
                    raise _unavailable(
                        f"the node daemon of {self._layout.home} is of another version; let its jobs end, then stop "
                        "it: trainshed serve --stop-nodes with the version that started it"
                    )
                if "superseded" in answer:
                    raise _unavailable("the node daemon serves another process of the service, which leads now")
            except BaseException:
                writer.close()
                raise
        self._writer = writer
        self._daemon_pid = int(answer["pid"])
        return reader

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the daemon in a session of its own. A second one of the same home ends at once by itself."""
        environment = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
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


def _unavailable(what: str) -> EngineUnavailable:
    text = f"{what[0].upper()}{what[1:]}. It is tried again; see `trainshed doctor`."
    return EngineUnavailable(Reason(ReasonCode.ENGINE_UNAVAILABLE, text))
