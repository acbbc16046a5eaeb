"""The composition root: what ``trainshed serve`` puts together, starts and stops again.

One process: the API and the control loops. The node daemon is another process, found or started by the engine; it
goes on when this one ends, unless asked otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import structlog
import uvicorn
import uvloop

from trainshed.api.app import create_app
from trainshed.api.services import Services
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings, now_ms
from trainshed.engines.local.addresses import file_server_address
from trainshed.engines.local.capacity import Machine
from trainshed.engines.local.doctor import Check, capabilities
from trainshed.engines.local.engine import LocalEngine
from trainshed.engines.local.gpus import count_gpus
from trainshed.engines.protocol import EngineUnavailable
from trainshed.identity import LinkSigner, Tokens, UnsafeSecretFile, Vault, VaultError
from trainshed.resources.quotas import InvalidQuotas, Quotas, default_limits, read_quotas
from trainshed.resources.vmsizes import local_sizes
from trainshed.store.database import Database
from trainshed.store.errors import SchemaMismatch

log = structlog.get_logger(__name__)

#: Seconds that open connections (log followers, say) have to end when the service stops.
CLOSE_CONNECTIONS_SECONDS = 2


class CannotListen(Exception):
    """The address or port is not to be had."""


class AlreadyRunning(Exception):
    """Another service uses this home."""


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    home: Path | None = None,
    database_url: str | None = None,
    stop_nodes_at_exit: bool = False,
) -> int:
    """Run the service until SIGTERM or SIGINT. Returns the exit status."""
    home = home or default_home()
    try:
        prepare_home(home)
        with only_service_of(home):
            _configure_logging()
            uvloop.install()
            return asyncio.run(_serve(host, port, home, database_url, stop_nodes_at_exit))
    except (
        AlreadyRunning,
        UnsafeSecretFile,
        VaultError,
        SchemaMismatch,
        EngineUnavailable,
        CannotListen,
        InvalidQuotas,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def default_home() -> Path:
    """``$TRAINSHED_HOME``, else ``~/.trainshed``."""
    return Path(os.environ.get("TRAINSHED_HOME") or "~/.trainshed").expanduser().absolute()


def prepare_home(home: Path) -> None:
    """Make the home, readable by its owner only."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    for name in ("clusters", "nodes", "code", "logs", "storage", "fileservers"):
        (home / name).mkdir(mode=0o700, exist_ok=True)


def load_quotas(home: Path) -> Quotas:
    """The limits in ``quotas.json`` of the home, the defaults without it. Raises InvalidQuotas naming the file."""
    path = home / "quotas.json"
    machine = Machine.here()
    promised = int(machine.cpus * machine.oversubscription)
    try:
        return read_quotas(path.read_text(encoding="utf-8"), promised)
    except FileNotFoundError:
        return Quotas(default_limits(promised))
    except (InvalidQuotas, UnicodeDecodeError, OSError) as error:
        raise InvalidQuotas(f"the quotas in {path} cannot be used: {error}. Mend or remove the file") from None


@contextlib.contextmanager
def only_service_of(home: Path) -> Iterator[None]:
    """Hold the home for one service. Raises AlreadyRunning; a killed service lets go by dying."""
    with (home / "service.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(
                f"a service is running on {home} already; see `trainshed status`, or give another --home"
            ) from None
        yield


async def _serve(host: str, port: int, home: Path, database_url: str | None, stop_nodes_at_exit: bool) -> int:
    listener = _listen(host, port)
    tokens = Tokens.load_or_create(home)
    vault = Vault.load_or_create(home)
    machine_sizes = local_sizes(psutil.cpu_count() or 1, psutil.virtual_memory().total // 2**20, count_gpus())
    quotas = load_quotas(home)
    db = await asyncio.to_thread(Database.open, database_url or f"sqlite:///{home / 'trainshed.db'}")
    engine = LocalEngine(home)
    settings = ControlSettings(
        local_sizes=machine_sizes,
        code_store=str(home / "code"),
        home=home,
        file_server_address=file_server_address,
        quotas=quotas,
    )
    controller = Controller(db, engine, vault.unseal_text, settings)
    services = Services(
        db=db,
        vault=vault,
        links=LinkSigner.from_vault(vault),
        tokens=tokens,
        home=home,
        wake=controller.wake,
        wake_queue=controller.wake_queue,
        explain=controller.explain,
        mount_root=engine.mount_root,
        engine_available=lambda: controller.engine_available,
        local_sizes=machine_sizes,
        quotas=quotas,
        now_ms=now_ms,
        stopping=lambda: server.should_exit,
    )
    config = uvicorn.Config(
        create_app(services),
        log_level="warning",
        access_log=False,
        lifespan="off",
        http="httptools",
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=CLOSE_CONNECTIONS_SECONDS,
        timeout_keep_alive=75,
    )
    service_file = home / "service.json"
    url = _url(host, listener)

    def ready() -> None:
        _write_service_file(service_file, url, tokens.admin)
        _announce(url, home)

    server = Server(config, ready)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    try:
        await controller.start()
        await server.serve(sockets=[listener])
    finally:
        service_file.unlink(missing_ok=True)
        await controller.stop()
        if stop_nodes_at_exit:
            await engine.shut_down()
        await engine.close()
        await db.close()
    return 0


class Server(uvicorn.Server):
    """uvicorn's server, told when to stop by the loop's own signal handlers, and telling when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the loop's."""
        yield

    def stop(self) -> None:
        """End open streams, then the server; a second time, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host} port {port}: {error.strerror}; give another --port, or 0 for a free one"
        ) from None
    return listener


def _url(host: str, listener: socket.socket) -> str:
    bound = listener.getsockname()[1]
    return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"


def _write_service_file(path: Path, url: str, token: str) -> None:
    """Atomically, with mode 0600 from the first byte."""
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump({"url": url, "token": token, "pid": os.getpid()}, out)
    temporary.replace(path)


def _announce(url: str, home: Path) -> None:
    _print(f"Trainshed is ready at {url} (home {home})", sys.stderr)
    _print("Try: trainshed status   |   trainshed run -- python train.py   |   stop with Ctrl-C", sys.stderr)


def doctor(home: Path) -> list[Check]:
    """What the service's machine offers to jobs, and what mends what it lacks (``trainshed doctor``)."""
    return capabilities(home)


def _print(text: str, stream: IO[str]) -> None:
    try:
        print(text, file=stream, flush=True)
    except OSError:
        log.warning("standard error is closed")


def _configure_logging() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
