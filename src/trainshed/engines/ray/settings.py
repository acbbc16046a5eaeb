"""What ``trainshed engine add ray`` can be told, and the options of a cluster on Ray: checked, with defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from trainshed.engines.ray.claims import parse_labels

#: Settings of an engine, each with what it means; ``trainshed engine add ray NAME --option value``.
SETTINGS = {
    "address": "HOST:PORT of Ray's head (`ray start --head` prints it; the port is 6379 unless you chose another)",
    "directory": "a directory that this machine and all Ray nodes see at the same path: mounts, logs and states",
    "scratch": "a directory on each node's own disk for what is a node's alone; absent: below the shared directory",
    "token_file": "file with Ray's authentication token; absent: Ray's default, ~/.ray/auth_token, where there is one",
    "autoscale": "true: ask Ray's autoscaler for the nodes that clusters want; false: only machines that have joined",
    "fence_seconds": "after how long a node that Ray lost without a trace counts as ended; at least 60",
}
#: Options of a cluster; ``trainshed cluster create --engine-option``.
OPTIONS = {
    "resource": "custom resource that the cluster's Ray nodes have (`ray start --resources`), one a node",
    "labels": "labels that they have (`ray start --labels`), NAME=VALUE,NAME=VALUE",
}
_TRUTHS = {"true": True, "false": False}
#: A raylet that lost its head ends itself after 60 s (RAY_gcs_rpc_server_reconnect_timeout_s).
_FENCE, _LEAST_FENCE = 90.0, 60.0


@dataclass(frozen=True, slots=True)
class RaySettings:
    """One engine."""

    address: str
    directory: str
    scratch: str = ""
    token_file: str = ""
    autoscale: bool = False
    fence_seconds: float = _FENCE


def parse_settings(settings: Mapping[str, str]) -> RaySettings:
    """Check them. Raises ValueError, which says what is wrong and what to write."""
    _known(settings, SETTINGS, "setting of a Ray engine")
    for name in ("address", "directory"):
        if not settings.get(name):
            raise ValueError(f"a Ray engine needs the setting {name}: {SETTINGS[name]}")
    host, _, port = settings["address"].rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"address is HOST:PORT, not {settings['address']!r}: {SETTINGS['address']}")
    for name in ("directory", "scratch", "token_file"):
        if settings.get(name) and not PurePosixPath(settings[name]).is_absolute():
            raise ValueError(f"{name} is an absolute path, not {settings[name]!r}: {SETTINGS[name]}")
    autoscale = settings.get("autoscale", "false").lower()
    if autoscale not in _TRUTHS:
        raise ValueError(f"autoscale is true or false, not {settings['autoscale']!r}")
    try:
        fence = float(settings.get("fence_seconds", _FENCE))
    except ValueError:
        raise ValueError(f"fence_seconds is a number of seconds, not {settings['fence_seconds']!r}") from None
    if not _LEAST_FENCE <= fence < float("inf"):
        raise ValueError(f"fence_seconds is at least {_LEAST_FENCE:g}: {SETTINGS['fence_seconds']}")
    return RaySettings(
        settings["address"],
        settings["directory"],
        settings.get("scratch", ""),
        settings.get("token_file", ""),
        _TRUTHS[autoscale],
        fence,
    )


def check_options(options: Mapping[str, str]) -> None:
    """The options of a cluster. Raises ValueError, which says what is wrong."""
    _known(options, OPTIONS, "option of a cluster on Ray")
    parse_labels(options.get("labels"))


def _known(given: Mapping[str, str], known: Mapping[str, str], what: str) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{name} is no {what}; there are {', '.join(known)}")
