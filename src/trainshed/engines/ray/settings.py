"""What ``trainshed engine add ray`` can be told, and what a cluster may ask of such an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from trainshed.engines.ray.claims import parse_labels
from trainshed.resources.engines import Option

#: A raylet that lost its head ends itself after 60 s (RAY_gcs_rpc_server_reconnect_timeout_s).
_FENCE, _LEAST_FENCE = 90.0, 60.0
_ANSWERS = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class RaySettings:
    """One engine."""

    address: str
    directory: str
    scratch: str = ""
    token_file: str = ""
    autoscale: bool = False
    fence_seconds: float = _FENCE
    share_user: bool = False

    @classmethod
    def of(cls, given: Mapping[str, str]) -> RaySettings:
        """From texts that have been checked (``SETTINGS``)."""
        return cls(
            given["address"],
            given["directory"],
            given.get("scratch", ""),
            given.get("token_file", ""),
            _ANSWERS[given.get("autoscale", "no")],
            float(given.get("fence_seconds", _FENCE)),
            _ANSWERS[given.get("share_user", "no")],
        )


def _address(value: str) -> str | None:
    host, _, port = value.rpartition(":")
    return (
        None if host and port.isdigit() and 0 < int(port) < 65536 else "it is HOST:PORT, as `ray start --head` says it"
    )


def _path(value: str) -> str | None:
    return None if PurePosixPath(value).is_absolute() else "it is an absolute path"


def _answer(value: str) -> str | None:
    return None if value in _ANSWERS else "it is yes or no"


def _fence(value: str) -> str | None:
    try:
        return None if _LEAST_FENCE <= float(value) < float("inf") else f"it is at least {_LEAST_FENCE:g}"
    except ValueError:
        return "it is a number of seconds"


def _labels(value: str) -> str | None:
    try:
        parse_labels(value)
    except ValueError as error:
        return str(error)
    return None


SETTINGS = (
    Option("address", "HOST:PORT of Ray's head", required=True, check=_address),
    Option(
        "directory",
        "a directory that this machine and all Ray nodes see at one path: mounts, logs and states are there",
        required=True,
        check=_path,
    ),
    Option(
        "scratch", "a directory on each node's own disk for what is the node's alone; else below directory", check=_path
    ),
    Option("token_file", "file with Ray's authentication token; else Ray's own, ~/.ray/auth_token", check=_path),
    Option("autoscale", "yes: Ray's autoscaler is asked for the nodes that clusters want (no)", check=_answer),
    Option("share_user", "yes when jobs of all workspaces may run as the one user of Ray's nodes (no)", check=_answer),
    Option(
        "fence_seconds",
        f"after how long a node that Ray lost without a trace counts as ended ({_FENCE:g})",
        check=_fence,
    ),
)
CLUSTER_OPTIONS = (
    Option("resource", "custom resource of the cluster's Ray nodes (`ray start --resources`)"),
    Option("labels", "labels that they have (`ray start --labels`): NAME=VALUE,NAME=VALUE", check=_labels),
)
