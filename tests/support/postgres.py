"""A private PostgreSQL server for tests, from Debian's binaries: a Unix socket in a temporary folder, no port."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

_ROOT_OF_VERSIONS = Path("/usr/lib/postgresql")
_START_TIMEOUT = 30


class PostgresServer:
    """A running server. Each database on it is as good as an installation of its own."""

    def __init__(self, folder: Path, user: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._folder = folder
        self._user = user
        self._start = start
        self._numbers = itertools.count(1)
        self._process = start()
        self._wait_until_ready()

    def url(self, database: str) -> str:
        """Where Trainshed finds a database of this server."""
        return f"postgresql://{self._user}@/{database}?host={self._folder}"

    def create(self) -> str:
        """Make an empty database; returns its name."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def run(self, statement: str) -> None:
        """Run a statement as the administrator."""
        url = make_url(self.url("postgres")).set(drivername="postgresql+psycopg")
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def restart(self) -> None:
        """Stop as an administrator does (connections are cut), and start again."""
        self.stop()
        self._process = self._start()
        self._wait_until_ready()

    def stop(self) -> None:
        """Fast shutdown; returns when the server is gone."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(20)

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _START_TIMEOUT
        ask = [str(binaries() / "pg_isready"), "-q", "-h", str(self._folder), "-t", "1"]
        while subprocess.run(ask, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"the test's PostgreSQL did not start: {(self._folder / 'log').read_text()}")
            time.sleep(0.02)


def binaries() -> Path:
    """The newest version's programs; skips the test, with the reason, where there are none."""
    versions = sorted(_ROOT_OF_VERSIONS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not versions:
        pytest.skip(f"no PostgreSQL server below {_ROOT_OF_VERSIONS}: apt-get install postgresql")
    return versions[-1].parent


def _unprivileged() -> tuple[str, int, int, list[str]]:
    """User, uid, gid, and how to become that user: the server refuses to run as root."""
    if os.getuid() != 0:
        entry = pwd.getpwuid(os.getuid())
        return entry.pw_name, entry.pw_uid, entry.pw_gid, []
    if shutil.which("setpriv") is None:
        pytest.skip("running as root without setpriv: PostgreSQL refuses to run as root")
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        ids = ["--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid)]
        return name, entry.pw_uid, entry.pw_gid, ["setpriv", *ids, "--clear-groups"]
    pytest.skip("running as root, and there is no user postgres or nobody to run PostgreSQL as")


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server that is gone, with its files, when the block ends; killed with this process if that dies.

    ``durable``: commits are synced to the disk, as users have it.
    """
    programs = binaries()
    user, uid, gid, become = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="trainshed-pg-"))
    try:
        os.chown(folder, uid, gid)
        data = folder / "data"
        initdb = str(programs / "initdb")
        initialise = [initdb, "-D", str(data), "-A", "trust", "-U", user, "--no-sync", "-E", "UTF8"]
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [*become, *initialise, "--locale=C.UTF-8"],
            check=True,
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=120,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "on" if durable else "off",
            "max_connections": "50",
            "shared_buffers": "32MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*become]
        if become:
            command += ["--pdeathsig", "KILL"]
        command += [str(programs / "postgres"), "-D", str(data), *options]

        def start() -> subprocess.Popen[bytes]:
            with open(folder / "log", "ab") as log:
                return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

        server = PostgresServer(folder, user, start)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
