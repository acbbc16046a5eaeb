"""The composition root: what ``trainshed serve`` puts together, starts and stops again.

One process: the API and the control loops; on PostgreSQL there may be more of them, one of which controls. The node
daemon is another process, found or started by the engine; it goes on when this one ends, unless asked otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import structlog
import uvloop
from sqlalchemy import Connection

from trainshed import drain
from trainshed.api.app import create_app
from trainshed.api.authentication import Authenticator
from trainshed.api.services import Services
from trainshed.control.lease import DEFAULT_SECONDS, LeaseTimes
from trainshed.control.settings import ControlSettings, now_ms
from trainshed.controlling import Control, Holding, hold, is_reached, make_control, note_reached
from trainshed.engines.checks import Check
from trainshed.engines.local.disk import reserve
from trainshed.engines.local.doctor import capabilities
from trainshed.engines.local.gpus import count_gpus
from trainshed.engines.local.job_users import CannotIsolate, JobUsers, Mode
from trainshed.engines.protocol import EngineUnavailable
from trainshed.home_sharing import ForeignHome
from trainshed.http_server import HttpServer
from trainshed.identity import LinkSigner, Tokens, UnsafeSecretFile, Vault, VaultError, oidc_settings
from trainshed.identity.keyvault import open_keyvault
from trainshed.identity.oidc import Issuer, Verifier
from trainshed.identity.oidc_settings import InvalidIssuers
from trainshed.listening import CannotListen, Tls, TlsFiles, is_loopback, listen, require_protection, url_of
from trainshed.resources.engines import InvalidEngines
from trainshed.resources.host_directories import InvalidHostDirectories
from trainshed.resources.prices import InvalidPrices
from trainshed.resources.quotas import InvalidQuotas
from trainshed.resources.storage_endpoints import InvalidEndpoints
from trainshed.resources.users import DEFAULT_RANGE, JobUser, UserRange
from trainshed.resources.vmsizes import local_sizes
from trainshed.service_home import (
    AlreadyRunning,
    ServiceFile,
    load_engines,
    load_host_directories,
    load_prices,
    load_quotas,
    load_storage_endpoints,
    prepare_home,
)
from trainshed.store import draining, principals
from trainshed.store.database import Database
from trainshed.store.errors import StoreError

log = structlog.get_logger(__name__)

#: What may be wrong at the start: told in one line, with the way out.
_START_ERRORS = (
    AlreadyRunning,
    CannotIsolate,
    CannotListen,
    EngineUnavailable,
    ForeignHome,
    InvalidEndpoints,
    InvalidEngines,
    InvalidHostDirectories,
    InvalidIssuers,
    InvalidPrices,
    InvalidQuotas,
    StoreError,
    UnsafeSecretFile,
    VaultError,
)

#: Seconds between two looks at whether the service is to leave, and whether clients still find one of its processes.
_LOOK_AGAIN = 2.0


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
    #: ``all``, ``api`` (it never controls) or ``controller`` (it answers probes only).
    role: str = "all"
    #: How long a controller is believed to live after it last said so.
    lease_seconds: float = DEFAULT_SECONDS
    #: Finish what runs, start nothing more, and leave (True); go on as usual (False); as it is (None).
    drain: bool | None = None
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
    """Run the service until SIGTERM or SIGINT, or until it has drained. Returns the exit status."""
    home, host = options.home, options.host
    url = options.database_url or f"sqlite:///{home / 'trainshed.db'}"
    try:
        require_protection(host, tls=options.tls_files is not None, insecure=options.insecure_listen)
        tls = None if options.tls_files is None else Tls(options.tls_files)
        prepare_home(home)
        issuers = oidc_settings.load(home)
        if options.oidc_issuer is not None:
            issuers += (oidc_settings.issuer_of(options.oidc_issuer, list(options.oidc_audiences)),)
        if options.drain is not None:
            told = drain.tell(home, url, wanted=options.drain)
            if told is not None:
                return told
        with hold(home, url) as holding:
            _require_role(options, holding)
            _configure_logging()
            uvloop.install()
            mode, users = Mode(options.isolate_jobs), UserRange.parse(options.job_users)
            reached_at = "" if is_loopback(host) else host
            note_reached(holding, reached_at or ("OpenID providers are trusted" if issuers else ""))
            job_users = JobUsers(home, mode, users, reached_at)
            return asyncio.run(_serve(options, holding, tls, issuers, job_users))
    except _START_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _require_role(options: ServeOptions, holding: Holding) -> None:
    if options.role != "all" and not holding.shared:
        raise CannotListen(
            f"--role {options.role} is for several processes on one PostgreSQL: with SQLite one process does all; "
            "leave it out, or give --database-url"
        )


async def _serve(
    options: ServeOptions, holding: Holding, tls: Tls | None, issuers: tuple[Issuer, ...], job_users: JobUsers
) -> int:
    home, db = options.home, holding.db
    listener = listen(options.host, options.port)
    tokens = Tokens.load_or_create(home)
    vault = Vault.load_or_create(home)
    verifier = Verifier(issuers) if issuers else None
    machine_sizes = local_sizes(psutil.cpu_count() or 1, psutil.virtual_memory().total // 2**20, count_gpus())
    quotas, endpoints = load_quotas(home), load_storage_endpoints(home)
    host_directories = load_host_directories(home)
    engines = load_engines(home)
    keyvault = open_keyvault(home)
    drain_known = await db.read(draining.known_at_start)

    def job_user(tx: Connection, number: int) -> JobUser | None:
        several = bool(issuers) or principals.count(tx) > 0 or (holding.shared and is_reached(tx))
        return job_users.of(number, several_users=several)

    settings = ControlSettings(
        local_sizes=machine_sizes,
        home=home,
        quotas=quotas,
        prices=load_prices(home),
        storage_endpoints=endpoints,
        host_directories=host_directories,
        allocation_retry_seconds=options.node_retry_seconds,
        job_user=job_user,
        drain_known=drain_known,
        shared=holding.shared,
        engines=engines.traits,
    )
    if job_users.warning:
        log.warning("jobs are not isolated", why=job_users.warning)
    times = LeaseTimes(options.lease_seconds)
    control = make_control(holding, home, options.role, times, settings, vault.unseal_text, keyvault.get, engines)
    services = Services(
        db=db,
        vault=vault,
        links=LinkSigner.from_vault(vault),
        authenticator=Authenticator(db, tokens, verifier, now_ms),
        keyvault=keyvault,
        home=home,
        wake=control.wake,
        wake_queue=control.wake_queue,
        explain=control.explain,
        explain_fully=control.explain_fully,
        queue=control.queue,
        prices=settings.prices,
        mount_root=engines.mount_root_of(home.absolute()),
        cluster_options=engines.cluster_options,
        engines=engines.traits,
        engine_available=lambda: control.engine_available,
        standing=control.standing,
        alone=holding.members.alone,
        local_sizes=machine_sizes,
        quotas=quotas,
        storage_endpoints=endpoints,
        host_directories=host_directories,
        disk_reserve=reserve(home),
        now_ms=now_ms,
        stopping=lambda: server.should_exit,
    )
    found = ServiceFile(home / "service.json", url_of(options.host, listener, tls=tls is not None), tokens.admin)

    def ready() -> None:
        if options.role != "controller":
            found.say(unless_served=holding.shared)
        _announce(found.url, home)

    server = HttpServer(create_app(services, probes_only=options.role == "controller"), ready, tls)
    loop = asyncio.get_running_loop()
    if tls is not None:
        loop.add_signal_handler(signal.SIGHUP, _reload, tls)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    return await _run(options, holding, control, server, listener, found, drain_known)


async def _run(
    options: ServeOptions,
    holding: Holding,
    control: Control,
    server: HttpServer,
    listener: socket.socket,
    found: ServiceFile,
    drain_known: str | None,
) -> int:
    watch: asyncio.Task[None] | None = None
    try:
        await control.start()
        keep = found if holding.shared and options.role != "controller" else None
        watch = asyncio.create_task(_watch(holding.db, drain_known, server, keep), name="watch")
        await server.serve(sockets=[listener])
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        found.remove()
        await control.stop(stop_nodes=options.stop_nodes)
    return 0


async def _watch(db: Database, known: str | None, server: HttpServer, keep: ServiceFile | None) -> None:
    """Leave when all is drained; and when the process that clients were to find is gone, be found in its place."""
    while not server.should_exit:
        await asyncio.sleep(_LOOK_AGAIN)
        try:
            drain = await db.read(lambda tx: draining.wanted(tx, known))
        except StoreError:
            drain = None
        if drain is not None and drain.done:
            log.info("nothing runs any more, as was asked for: the service leaves")
            server.stop()
        elif keep is not None and server.started:
            keep.say(unless_served=True)


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
    """What this machine and the engines offer to jobs, and what mends what they lack (``trainshed doctor``)."""
    try:
        added = load_engines(home).doctor(home)
    except InvalidEngines as error:
        added = [Check("engines", False, str(error))]
    return [*capabilities(home), *added]


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
