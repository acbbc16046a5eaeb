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
from trainshed.api.authentication import Authenticator
from trainshed.api.services import Services
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings, now_ms
from trainshed.engines.local.addresses import file_server_address
from trainshed.engines.local.capacity import Machine
from trainshed.engines.local.doctor import Check, capabilities
from trainshed.engines.local.engine import LocalEngine
from trainshed.engines.local.gpus import count_gpus
from trainshed.engines.local.job_users import CannotIsolate, JobUsers, Mode
from trainshed.engines.protocol import EngineUnavailable
from trainshed.identity import LinkSigner, Tokens, UnsafeSecretFile, Vault, VaultError, oidc_settings
from trainshed.identity.keyvault import open_keyvault
from trainshed.identity.oidc import Issuer, Verifier
from trainshed.identity.oidc_settings import InvalidIssuers
from trainshed.listening import CannotListen, Tls, TlsFiles, listen, require_protection, url_of
from trainshed.resources.quotas import InvalidQuotas, Quotas, default_limits, read_quotas
from trainshed.resources.users import DEFAULT_RANGE, UserRange
from trainshed.resources.vmsizes import local_sizes
from trainshed.store import principals
from trainshed.store.database import Database
from trainshed.store.errors import SchemaMismatch

log = structlog.get_logger(__name__)

#: Seconds that open connections (log followers, say) have to end when the service stops.
CLOSE_CONNECTIONS_SECONDS = 2


class AlreadyRunning(Exception):
    """Another service uses this home."""


#: What may be wrong at the start: told in one line, with the way out.
_START_ERRORS = (
    AlreadyRunning,
    CannotIsolate,
    CannotListen,
    EngineUnavailable,
    InvalidIssuers,
    InvalidQuotas,
    SchemaMismatch,
    UnsafeSecretFile,
    VaultError,
)


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    home: Path | None = None,
    database_url: str | None = None,
    stop_nodes_at_exit: bool = False,
    oidc_issuer: str | None = None,
    oidc_audiences: tuple[str, ...] = (),
    tls_files: TlsFiles | None = None,
    insecure_listen: bool = False,
    isolate_jobs: str = Mode.AUTO,
    job_users: str = DEFAULT_RANGE,
) -> int:
    """Run the service until SIGTERM or SIGINT. Returns the exit status.

    On an address that other machines may reach it needs ``tls_files``, or ``insecure_listen``.
    """
    home = home or default_home()
    try:
        require_protection(host, tls=tls_files is not None, insecure=insecure_listen)
        tls = None if tls_files is None else Tls(tls_files)
        prepare_home(home)
        oidc = (oidc_settings.issuer_of(oidc_issuer, list(oidc_audiences)),) if oidc_issuer else ()
        with only_service_of(home):
            _configure_logging()
            uvloop.install()
            strangers = JobUsers(home, Mode(isolate_jobs), UserRange.parse(job_users), host)
            return asyncio.run(_serve(host, port, home, database_url, stop_nodes_at_exit, oidc, tls, strangers))
    except _START_ERRORS as error:
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


async def _serve(
    host: str,
    port: int,
    home: Path,
    database_url: str | None,
    stop_nodes_at_exit: bool,
    oidc: tuple[Issuer, ...],
    tls: Tls | None,
    strangers: JobUsers,
) -> int:
    listener = listen(host, port)
    tokens = Tokens.load_or_create(home)
    vault = Vault.load_or_create(home)
    issuers = oidc_settings.load(home) + oidc
    verifier = Verifier(issuers) if issuers else None
    machine_sizes = local_sizes(psutil.cpu_count() or 1, psutil.virtual_memory().total // 2**20, count_gpus())
    quotas = load_quotas(home)
    db = await asyncio.to_thread(Database.open, database_url or f"sqlite:///{home / 'trainshed.db'}")
    engine = LocalEngine(home)
    keyvault = open_keyvault(home)
    settings = ControlSettings(
        local_sizes=machine_sizes,
        home=home,
        file_server_address=file_server_address,
        quotas=quotas,
        job_user=lambda tx, number: strangers.of(number, several_users=bool(issuers) or principals.count(tx) > 0),
    )
    if strangers.warning:
        log.warning("jobs are not isolated", why=strangers.warning)
    controller = Controller(db, engine, vault.unseal_text, settings, keyvault.get)
    services = Services(
        db=db,
        vault=vault,
        links=LinkSigner.from_vault(vault),
        authenticator=Authenticator(db, tokens, verifier, now_ms),
        keyvault=keyvault,
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
    url = url_of(host, listener, tls=tls is not None)

    def ready() -> None:
        _write_service_file(service_file, url, tokens.admin)
        _announce(url, home)

    server = Server(config, ready, tls)
    loop = asyncio.get_running_loop()
    if tls is not None:
        loop.add_signal_handler(signal.SIGHUP, _reload, tls)
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

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], tls: Tls | None = None) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        config.load()
        config.ssl = None if tls is None else tls.context

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


def _reload(tls: Tls) -> None:
    """SIGHUP: the certificate was renewed."""
    try:
        tls.reload()
    except CannotListen as error:
        log.warning("certificate not changed", reason=str(error))
    else:
        log.info("certificate changed")


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
