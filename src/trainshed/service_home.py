"""The service's home: its folders, who may hold it, its quotas, and the file by which clients find the service."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from trainshed.engines.kinds import Engines, check
from trainshed.engines.local.capacity import Machine
from trainshed.resources.engines import FILE_NAME as ENGINES_FILE
from trainshed.resources.engines import EngineDescription, InvalidEngines, read_engines
from trainshed.resources.host_directories import (
    FILE_NAME,
    AllowedDirectory,
    InvalidHostDirectories,
    read_host_directories,
)
from trainshed.resources.prices import FILE_NAME as PRICES_FILE
from trainshed.resources.prices import InvalidPrices, Prices, read_prices
from trainshed.resources.quotas import InvalidQuotas, Quotas, default_limits, read_quotas
from trainshed.resources.storage_endpoints import InvalidEndpoints, StorageEndpoints, read_endpoints


class AlreadyRunning(Exception):
    """Another service uses this home."""


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


def load_prices(home: Path) -> Prices:
    """``prices.json`` of the home; none without it. Raises InvalidPrices naming the file."""
    path = home / PRICES_FILE
    try:
        return read_prices(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Prices()
    except (InvalidPrices, UnicodeDecodeError, OSError) as error:
        raise InvalidPrices(f"the prices in {path} cannot be used: {error}. Mend or remove the file") from None


def load_storage_endpoints(home: Path) -> StorageEndpoints:
    """``storage-endpoints.json`` of the home; none without it. Raises InvalidEndpoints naming the file."""
    path = home / "storage-endpoints.json"
    try:
        return read_endpoints(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return StorageEndpoints()
    except (InvalidEndpoints, UnicodeDecodeError, OSError) as error:
        raise InvalidEndpoints(f"the endpoints in {path} cannot be used: {error}. Mend or remove the file") from None


def load_host_directories(home: Path) -> tuple[AllowedDirectory, ...]:
    """``host-directories.json`` of the home; none without it. Raises InvalidHostDirectories naming the file."""
    path = home / FILE_NAME
    try:
        allowed = read_host_directories(path.read_text(encoding="utf-8"))
        for entry in allowed:
            real = Path(os.path.realpath(entry.path))
            if real in (Path("/"), home.resolve()) or home.resolve().is_relative_to(real):
                raise InvalidHostDirectories(f"the service's own files are in '{entry.path}', so nobody may mount it")
            if real.is_relative_to(home.resolve()):
                raise InvalidHostDirectories(f"'{entry.path}' is one of the service's own directories")
    except FileNotFoundError:
        return ()
    except (InvalidHostDirectories, UnicodeDecodeError, OSError) as error:
        raise InvalidHostDirectories(f"{path} cannot be used: {error}. Mend or remove the file") from None
    return allowed


def load_engine_descriptions(home: Path) -> tuple[EngineDescription, ...]:
    """``engines.json`` of the home as it is written; none without it. Raises InvalidEngines naming the file."""
    path = home / ENGINES_FILE
    try:
        return read_engines(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (InvalidEngines, UnicodeDecodeError, OSError) as error:
        raise InvalidEngines(f"the engines in {path} cannot be used: {error}. Mend or remove the file") from None


def load_engines(home: Path) -> Engines:
    """The engines of the home, each of which can be made. Raises InvalidEngines naming the file."""
    described = load_engine_descriptions(home)
    try:
        for engine in described:
            check(engine)
    except InvalidEngines as error:
        path = home / ENGINES_FILE
        raise InvalidEngines(
            f"the engines in {path} cannot be used: {error}. Mend it with trainshed engine add, or take it out with "
            "trainshed engine remove"
        ) from None
    return Engines(described)


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


class ServiceFile:
    """``service.json``, by which clients of this machine find a process of the service."""

    def __init__(self, path: Path, url: str, token: str) -> None:
        self.url = url
        self._path = path
        self._token = token

    def say(self, *, unless_served: bool) -> None:
        """Name this process; ``unless_served``: leave another that is named when it is there.

        Atomically, with mode 0600 from the first byte.
        """
        if unless_served and self._is_served():
            return
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump({"url": self.url, "token": self._token, "pid": os.getpid()}, out)
        temporary.replace(self._path)

    def remove(self) -> None:
        """This process ends; where the file names another, it stays."""
        if self._named() == os.getpid():
            self._path.unlink(missing_ok=True)

    def _is_served(self) -> bool:
        pid = self._named()
        if pid is None:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def _named(self) -> int | None:
        try:
            return int(json.loads(self._path.read_text(encoding="utf-8"))["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
