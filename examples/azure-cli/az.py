"""Starts the original ``az batchai`` (azure-cli-batchai 0.4.10) on Python 3.11, signed in to a Trainshed service.

The packages stay as they are. Three things stood between them and today's Python, and are put back before they are
imported: two names that the standard library lost, and what ``argparse`` did with a name that is added twice. The
service is the one of ``TRAINSHED_URL`` and ``TRAINSHED_TOKEN``, else of ``$TRAINSHED_HOME/service.json``. Cloud,
subscription and token are written to ``AZURE_CONFIG_DIR`` (default ``~/.azure-trainshed``, so that your ``~/.azure``
is left alone) in the form in which ``az cloud register`` and ``az login`` would have left them.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc
import configparser
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

CLOUD = "Trainshed"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
_TENANT = "00000000-0000-0000-0000-000000000000"
_USER = "trainshed"
#: An address that can never answer: with the token in place nobody is asked for one. ``/adfs`` spares the look-up of
#: the authority that adal would otherwise make.
_AUTHORITY = "https://trainshed.invalid/adfs"
#: The id that the Azure command line signs in with; adal finds tokens by it.
_CLIENT_ID = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"


def service() -> tuple[str, str]:
    """Address and token of the service. Exits with what to do when there is none."""
    url = os.environ.get("TRAINSHED_URL")
    if url:
        return url.rstrip("/"), os.environ.get("TRAINSHED_TOKEN", "")
    home = Path(os.environ.get("TRAINSHED_HOME") or Path.home() / ".trainshed").expanduser()
    try:
        told = json.loads((home / "service.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.exit(f"no service is running for {home}. Start one (trainshed serve), or set TRAINSHED_URL.")
    return str(told["url"]), os.environ.get("TRAINSHED_TOKEN") or str(told["token"])


def sign_in(folder: Path, url: str, token: str, subscription: str) -> None:
    """Write what ``az cloud register``, ``az cloud set`` and ``az login`` would have written. Other settings stay."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    endpoint = f"{url}/"
    _settings(folder / "config", {"cloud": {"name": CLOUD}, "core": {"collect_telemetry": "no"}})
    _settings(
        folder / "clouds.config",
        {
            CLOUD: {
                "profile": "latest",
                "subscription": subscription,
                "endpoint_resource_manager": endpoint,
                "endpoint_management": endpoint,
                "endpoint_active_directory": _AUTHORITY,
                "endpoint_active_directory_resource_id": endpoint,
                "suffix_storage_endpoint": "core.windows.net",
            }
        },
    )
    account = {
        "id": subscription,
        "name": CLOUD,
        "state": "Enabled",
        "isDefault": True,
        "tenantId": _TENANT,
        "environmentName": CLOUD,
        "user": {"name": _USER, "type": "user"},
    }
    _private(folder / "azureProfile.json", json.dumps({"subscriptions": [account]}))
    entry = {
        "tokenType": "Bearer",
        "accessToken": token,
        "expiresOn": "9999-01-01 00:00:00.000000",
        "resource": endpoint,
        "userId": _USER,
        "isMRRT": False,
        "_clientId": _CLIENT_ID,
        "_authority": _AUTHORITY,
    }
    _private(folder / "accessTokens.json", json.dumps([entry]))


def restore_names() -> None:
    """Put back what Python 3.3 to 3.11 took away and the Azure command line of 2019 still uses."""
    collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]
    time.clock = time.process_time  # type: ignore[attr-defined]
    actions: Any = argparse._SubParsersAction
    add_parser = actions.add_parser

    def add_parser_again(self: Any, name: str, **more: Any) -> Any:
        # The command line enters each name as a choice first, and Python 3.11 takes that for a second parser.
        if isinstance(self._name_parser_map.get(name), str):
            del self._name_parser_map[name]
        return add_parser(self, name, **more)

    actions.add_parser = add_parser_again


def main() -> int:
    """Sign in, then run the command line's own entry."""
    folder = Path(os.environ.get("AZURE_CONFIG_DIR") or Path.home() / ".azure-trainshed").expanduser()
    os.environ["AZURE_CONFIG_DIR"] = str(folder)
    sign_in(folder, *service(), os.environ.get("TRAINSHED_SUBSCRIPTION") or SUBSCRIPTION)
    restore_names()
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated|TripleDES has been moved")
    from azure.cli.core import get_default_cli

    return int(get_default_cli().invoke(sys.argv[1:]) or 0)


def _settings(path: Path, sections: dict[str, dict[str, str]]) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    for section, values in sections.items():
        if not parser.has_section(section):
            parser.add_section(section)
        for name, value in values.items():
            parser.set(section, name, value)
    lines: list[str] = []
    for section in parser.sections():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in parser.items(section, raw=True)), ""]
    _private(path, "\n".join(lines))


def _private(path: Path, text: str) -> None:
    """Replace the file in one step, so that commands may run side by side; it is the user's alone from the start."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
