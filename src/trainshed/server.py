"""The composition root: what ``trainshed serve`` puts together, starts and stops again.

One process: the API and the control loops. The node daemon is another process, found or started by the engine; it
goes on when this one ends, unless asked otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import structlog
import uvloop

from trainshed.api.app import create_app
from trainshed.api.authentication import Authenticator
from trainshed.api.services import Services
from trainshed.control.controller import Controller
from trainshed.control.settings import ControlSettings, now_ms
from trainshed.engines.local.disk import reserve
from trainshed.engines.local.doctor import Check, capabilities
from trainshed.engines.local.engine import LocalEngine
from trainshed.engines.local.gpus import count_gpus
from trainshed.engines.local.job_users import CannotIsolate, JobUsers, Mode
from trainshed.engines.protocol import EngineUnavailable
from trainshed.http_server import HttpServer
from trainshed.identity import LinkSigner, Tokens, UnsafeSecretFile, Vault, VaultError, oidc_settings
from trainshed.identity.keyvault import open_keyvault
from trainshed.identity.oidc import Issuer, Verifier
from trainshed.identity.oidc_settings import InvalidIssuers
from trainshed.listening import CannotListen, Tls, TlsFiles, is_loopback, listen, require_protection, url_of
from trainshed.resources.host_directories import InvalidHostDirectories
from trainshed.resources.prices import InvalidPrices
from trainshed.resources.quotas import InvalidQuotas
from trainshed.resources.storage_endpoints import InvalidEndpoints
from trainshed.resources.users import DEFAULT_RANGE, UserRange
from trainshed.resources.vmsizes import local_sizes
from trainshed.service_home import (
    AlreadyRunning,
    load_host_directories,
    load_prices,
    load_quotas,
    load_storage_endpoints,
    only_service_of,
    prepare_home,
    write_service_file,
)
from trainshed.store import principals
from trainshed.store.database import Database
from trainshed.store.errors import SchemaMismatch

log = structlog.get_logger(__name__)

#: What may be wrong at the start: told in one line, with the way out.
_START_ERRORS = (
    AlreadyRunning,
    CannotIsolate,
    CannotListen,
    EngineUnavailable,
    InvalidEndpoints,
    InvalidHostDirectories,
    InvalidIssuers,
    InvalidPrices,
    InvalidQuotas,
    SchemaMismatch,
    UnsafeSecretFile,
    VaultError,
)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``trainshed serve`` is told."""

    home: Path
    host: str = "127.0.0.1"
    #: 0 takes a free one.
    port: int = 0
    #: PostgreSQL instead of the embedded SQLite.
    database_url: str | None = None
    #: End nodes and jobs with the service.
    stop_nodes: bool = False
    #: An OpenID provider to trust, and what its tokens' ``aud`` must hold.
    oidc_issuer: str | None = None
    oidc_audiences: tuple[str, ...] = ()
    #: An address that other machines may reach needs these, or ``insecure_listen``.
    tls_files: TlsFiles | None = None
    insecure_listen: bool = False
    #: Whether jobs run as users of their own, and of which ids.
    isolate_jobs: str = Mode.AUTO
    job_users: str = DEFAULT_RANGE
    #: Seconds before nodes that failed are replaced or asked for again, the first time.
    node_retry_seconds: float = ControlSettings.allocation_retry_seconds


def serve(options: ServeOptions) -> int:
    """Run the service until SIGTERM or SIGINT. Returns the exit status."""
    home, host = options.home, options.host
    try:
        require_protection(host, tls=options.tls_files is not None, insecure=options.insecure_listen)
        tls = None if options.tls_files is None else Tls(options.tls_files)
        prepare_home(home)
        issuers = oidc_settings.load(home)
        if options.oidc_issuer is not None:
            issuers += (oidc_settings.issuer_of(options.oidc_issuer, list(options.oidc_audiences)),)
        with only_service_of(home):
            _configure_logging()
            uvloop.install()
            mode, users = Mode(options.isolate_jobs), UserRange.parse(options.job_users)
            job_users = JobUsers(home, mode, users, reached_at="" if is_loopback(host) else host)
            return asyncio.run(_serve(options, tls, issuers, job_users))
    except _START_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


async def _serve(options: ServeOptions, tls: Tls | None, issuers: tuple[Issuer, ...], job_users: JobUsers) -> int:
    home = options.home
    listener = listen(options.host, options.port)
    tokens = Tokens.load_or_create(home)
    vault = Vault.load_or_create(home)
    verifier = Verifier(issuers) if issuers else None
    machine_sizes = local_sizes(psutil.cpu_count() or 1, psutil.virtual_memory().total // 2**20, count_gpus())
    quotas, endpoints = load_quotas(home), load_storage_endpoints(home)
    host_directories = load_host_directories(home)
    db = await asyncio.to_thread(Database.open, options.database_url or f"sqlite:///{home / 'trainshed.db'}")
    engine = LocalEngine(home)
    keyvault = open_keyvault(home)
    settings = ControlSettings(
        local_sizes=machine_sizes,
        home=home,
        quotas=quotas,
        prices=load_prices(home),
        storage_endpoints=endpoints,
        host_directories=host_directories,
        allocation_retry_seconds=options.node_retry_seconds,
        job_user=lambda tx, number: job_users.of(number, several_users=bool(issuers) or principals.count(tx) > 0),
    )
    if job_users.warning:
        log.warning("jobs are not isolated", why=job_users.warning)
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
        explain_fully=controller.explain_fully,
        queue=controller.queue,
        prices=settings.prices,
        mount_root=engine.mount_root,
        engine_available=lambda: controller.engine_available,
        local_sizes=machine_sizes,
        quotas=quotas,
        storage_endpoints=endpoints,
        host_directories=host_directories,
        disk_reserve=reserve(home),
        now_ms=now_ms,
        stopping=lambda: server.should_exit,
    )
    service_file = home / "service.json"
    url = url_of(options.host, listener, tls=tls is not None)

    def ready() -> None:
        write_service_file(service_file, url, tokens.admin)
        _announce(url, home)

    server = HttpServer(create_app(services), ready, tls)
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
        if options.stop_nodes:
            await engine.shut_down()
        await engine.close()
        await db.close()
    return 0


def _reload(tls: Tls) -> None:
    """SIGHUP: the certificate was renewed."""
    try:
        tls.reload()
    except CannotListen as error:
        log.warning("certificate not changed", reason=str(error))
    else:
        log.info("certificate changed")


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
