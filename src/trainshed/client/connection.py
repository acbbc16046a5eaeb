"""Finding the service: ``TRAINSHED_URL`` and ``TRAINSHED_TOKEN``, else ``$TRAINSHED_HOME/service.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainshed.client.errors import NoServiceError


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the service answers, and the token that it asks for. ``pid`` is known only for a local service.

    ``ca_file``: certificates (PEM) that vouch for the service's; None for those that the system trusts.
    """

    url: str
    token: str = field(repr=False)
    pid: int | None = None
    ca_file: str | None = None


def home_directory(environ: Mapping[str, str] | None = None) -> Path:
    """``$TRAINSHED_HOME``, else ``~/.trainshed``."""
    environ = os.environ if environ is None else environ
    given = environ.get("TRAINSHED_HOME")
    return Path(given).expanduser() if given else Path.home() / ".trainshed"


def find_service(environ: Mapping[str, str] | None = None) -> Connection:
    """The service that this environment means. Raises NoServiceError, which names the way to start one."""
    environ = os.environ if environ is None else environ
    url = environ.get("TRAINSHED_URL")
    if url:
        return Connection(_checked(url, "TRAINSHED_URL"), environ.get("TRAINSHED_TOKEN", ""), ca_file=_ca_file(environ))
    path = home_directory(environ) / "service.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        url, token, pid = str(told["url"]), str(told["token"]), told.get("pid")
    except FileNotFoundError:
        raise NoServiceError(
            f"no service is running for {path.parent}: {path} does not exist, and TRAINSHED_URL is not set"
        ) from None
    except PermissionError:
        raise NoServiceError(
            f"{path} belongs to another user and cannot be read",
            "set TRAINSHED_URL and TRAINSHED_TOKEN, or TRAINSHED_HOME to a home of your own",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise NoServiceError(
            f"{path} is not what the service writes (an object with url, token and pid)",
            f"stop the service, remove {path} and start it again: trainshed serve",
        ) from None
    token = environ.get("TRAINSHED_TOKEN") or token
    return Connection(_checked(url, str(path)), token, pid if isinstance(pid, int) else None, ca_file=_ca_file(environ))


def _ca_file(environ: Mapping[str, str]) -> str | None:
    """``TRAINSHED_CA_FILE``. Raises NoServiceError when there is no such file: nothing else may vouch in its place."""
    given = environ.get("TRAINSHED_CA_FILE")
    if given and not Path(given).is_file():
        raise NoServiceError(
            f"TRAINSHED_CA_FILE (--ca-file) names {given}, which is not there",
            "give the file with the certificate (PEM) that vouches for the service's",
        )
    return given or None


def _checked(url: str, source: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise NoServiceError(
            f"the address {url!r} in {source} is not a URL",
            "give it with its scheme, for example http://127.0.0.1:8080",
        )
    return url.rstrip("/")
