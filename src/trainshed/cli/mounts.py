"""``--mount PLACE=WHAT`` of ``run`` and ``job create``: a volume of 2026-11-01 in a few words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from trainshed.cli.errors import CommandError

EXAMPLES = "data=/data/imagenet,ro data=s3://bucket/prefix,ro,cache=50 code=git+https://host/code.git#v1.2"
_GIT = "git+"


def add_mounts(volumes: Mapping[str, Any], given: Iterable[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """mountVolumes with what the options name. S3 takes key, endpoint and region from AWS's variables.

    Raises CommandError.
    """
    made = {kind: list(entries or ()) for kind, entries in volumes.items()}
    for text in given:
        kind, entry = _volume(text, environment)
        made.setdefault(kind, []).append(entry)
    return made


def _volume(text: str, environment: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    place, equals, rest = text.partition("=")
    what, *options = rest.split(",")
    if not equals or not place or not what:
        raise _refused(text, "has no PLACE=WHAT")
    known: tuple[str, ...]
    if what.startswith("s3://"):
        kind, entry, known = "s3Buckets", _bucket(what, environment), ("ro", "cache")
    elif what.startswith(_GIT):
        url, _, revision = what.removeprefix(_GIT).partition("#")
        kind, entry, known = "gitRepositories", {"repositoryUrl": url}, ()
        if revision:
            entry["revision"] = revision
    elif what.startswith("/"):
        kind, entry, known = "hostDirectories", {"path": what}, ("ro",)
    else:
        raise _refused(text, f"names '{what}', which is no /directory, s3://bucket or git+https://repository")
    for option in options:
        name, _, value = option.partition("=")
        if name not in known:
            raise _refused(text, f"has '{option}', which does not go with {what.partition(':')[0]}")
        if name == "ro" and not value:
            entry["readOnly"] = True
        elif name == "cache" and value.isdecimal():
            entry |= {"readOnly": True, "cache": {"maxSizeInGB": int(value)}}
        else:
            raise _refused(text, f"has '{option}'; write ro, or cache=GB")
    return kind, {**entry, "relativeMountPath": place}


def _bucket(what: str, environment: Mapping[str, str]) -> dict[str, Any]:
    url = urlsplit(what)
    entry: dict[str, Any] = {"bucket": url.netloc}
    told = {
        "prefix": url.path.strip("/"),
        "endpoint": environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"),
        "region": environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
    }
    entry |= {name: value for name, value in told.items() if value}
    key_id, key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key_id and key:
        entry["credentials"] = {"accessKeyId": key_id, "secretAccessKey": key}
    return entry


def _refused(text: str, why: str) -> CommandError:
    return CommandError("InvalidMount", f"--mount {text} {why}", f"for example --mount {EXAMPLES.split()[0]}")
