"""Requests that nobody should send: real ones, bent in every way that came to mind, and plain noise.

Made from a seed, so that a request that does harm can be made again.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.api.service import CLUSTER, cluster_body, file_server_body, job_body
from tests.specification.wire import Request
from trainshed.api.endpoints import ENDPOINTS

_METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOO", "put", "CONNECT")
_VERSIONS = ("2018-05-01", "2026-11-01", "2018-03-01", "", "latest", "2018-05-01%00", "%ff")
_NAMES = {
    "subscription": ("sub", "SUB"), "group": ("Group", "group"), "workspace": ("ws",), "experiment": ("exp",),
    "cluster": ("c",), "job": ("j", "k"), "fileServer": ("nfs",), "location": ("local",), "file": ("stdout.txt",),
    "directory": ("stdouterr",), "sha256": ("0" * 64,), "snapshot": ("0" * 64,), "account": ("account",),
}  # fmt: skip
_SEGMENTS = (
    "", ".", "..", "%2e%2e", "%2f", "%00", "%ff%fe", "%ed%a0%80", "%", "%zz", "%25", "a b", "%20", "*", "~",
    "null", "-1", "n" * 65, "n" * 5000, "%f0%9f%92%a9", "Jobs", "jobs", "providers", "Microsoft.BatchAI", "{job}",
    "$", "'--", "\\", "%0d%0aX-Evil:%201",
)  # fmt: skip
_PARAMETERS = (
    "api-version", "maxresults", "MAXRESULTS", "$skiptoken", "outputdirectoryid", "directory", "linkexpiryinminutes",
    "offset", "se", "sp", "sig", "$filter", "%00", "%ff", "", "api-version[]",
)  # fmt: skip
_VALUES = (
    "", "0", "1", "-1", "1001", "9" * 30, "1e3", "NaN", "true", "%00", "%ff", "stdouterr", "MODEL", "..", "../..",
    "/etc", "%2e%2e%2f", "a" * 9000, "Cg==", "AAAA", "bm8", "%F0%9F%92%A9", "2018-06-06T22:06:02Z", "2018-05-01",
    "+1", "%c2%b2",
)  # fmt: skip
_TYPES = (
    b"application/json", b"application/json; charset=utf-8", b"application/json; charset=utf-16", b"text/plain",
    b"", b"/", b"application/merge-patch+json", b"multipart/form-data; boundary=x", b"application/json;;;=",
    b"\xff\xfe", b"a" * 5000,
)  # fmt: skip
_OTHER_HEADERS = (
    (b"Range", b"bytes=0-"), (b"Range", b"bytes=-"), (b"Range", b"bytes=" + b"9" * 400 + b"-"), (b"If-Range",
    b"\xff"), (b"Host", b""), (b"Host", b"\xe4 evil/..?#"), (b"Host", b"[::1]:80"), (b"Accept", b"text/html"),
    (b"Accept", b"\xff"), (b"If-Match", b"*"), (b"Cookie", b"a=b; \xff"), (b"X-Forwarded-Proto", b"javascript"),
    (b"Expect", b"200-ok"), (b"Content-Encoding", b"gzip"), (b"Accept-Language", b"\x80"),
    (b"x-ms-client-request-id", b"\xff" * 50), (b"X-HTTP-Method-Override", b"DELETE"), (b"Origin", b"null"),
)  # fmt: skip
#: Stands for JSON that ``json.dumps`` does not write.
_RAW = {
    "@huge": "9" * 5000, "@exponent": "1e999999", "@nan": "NaN", "@infinity": "-Infinity", "@zero": "-0.0",
    "@deep": "[" * 3000 + "]" * 3000, "@deeper": '{"a":' * 900 + '"\\u0041"' + "}" * 900, "@half": '"\\ud800"',
    "@nul": '"\\u0000"', "@twice": '{"id": "a", "id": "b"}', "@bare": "undefined", "@octal": "010",
}  # fmt: skip
ODD: tuple[Any, ...] = (
    *_RAW, None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 2**70, 0.5, 1e308, "", " ", "a" * 70_000,
    "\u202e", "💩", [], {}, [[]], [None], {"": None}, "P" + "9" * 400 + "D", "P999999999999999D", "PT0.0000000001S",
    "0:0:0.0000001", "../..", "$AZ_BATCHAI_MOUNT_ROOT/../..", "${", "$(id)", "/subscriptions/", CLUSTER.upper(),
    "/" * 4000, ["x"] * 2000, {"id": CLUSTER, "more": 1}, {"manual": {"targetNodeCount": 10**18}},
    "9" * 400 + ":00:00", "True", "\ufeff", "%s%n",
)  # fmt: skip


#: A body for each schema, with something of everything.
BODIES: dict[str, Any] = {
    "JobCreate": job_body(
        environmentVariables=[{"name": "A", "value": "1"}],
        secrets=[{"name": "B", "value": "hush"}],
        schedulingPriority="low",
        constraints={"maxWallClockTime": "PT2H"},
        jobPreparation={"commandLine": "true"},
        inputDirectories=[{"id": "I", "path": "/x"}],
        outputDirectories=[{"id": "M", "pathPrefix": "/x", "pathSuffix": "y"}],
        containerSettings={"imageSourceRegistry": {"image": "i", "serverUrl": "u"}, "shmSize": "1g"},
        mountVolumes={"unmanagedFileSystems": [{"mountCommand": "m", "relativeMountPath": "d"}]},
    ),
    "ClusterCreate": cluster_body(
        nodeSetup={"setupTask": {"commandLine": "a", "stdOutErrPathPrefix": "b"}},
        virtualMachineConfiguration={"imageReference": {"publisher": "p", "offer": "o", "sku": "s"}},
        subnet={"id": "/subscriptions/s/subnet"},
        vmPriority="lowpriority",
    ),
    "ClusterUpdate": {"properties": {"scaleSettings": {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 1}}}},
    "FileServerCreate": file_server_body(subnet={"id": "/subscriptions/s/subnet"}),
    "WorkspaceCreate": {"location": "local", "tags": {"a": "b"}},
    "WorkspaceUpdate": {"tags": {"a": "b"}},
    "CodeHashes": {"sha256": ["0" * 64]},
    "CodeManifest": {"a.py": {"sha256": "0" * 64, "mode": 420}},
}


def written(body: Any, *, ensure_ascii: bool = True) -> bytes:
    """The body as JSON, or as what only looks like it."""
    text = json.dumps(body, ensure_ascii=ensure_ascii)
    for mark, raw in _RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode("utf-8", "surrogatepass")


def bent_everywhere(body: Any) -> Iterator[Any]:
    """The body with each of its parts, one at a time, replaced by each odd value."""
    yield from ODD
    if isinstance(body, dict):
        for name, value in body.items():
            yield from ({**body, name: bent} for bent in bent_everywhere(value))
    elif isinstance(body, list):
        for place, value in enumerate(body):
            yield from ([*body[:place], bent, *body[place + 1 :]] for bent in bent_everywhere(value))


class Noise:
    """An endless row of requests. ``token`` is a valid one, which some of them carry."""

    def __init__(self, seed: int, token: str) -> None:
        self.dice = random.Random(seed)
        self.token = token.encode()

    def request(self) -> Request:
        """The next one."""
        dice = self.dice
        endpoint = dice.choice(ENDPOINTS)
        while endpoint.method == "DELETE" and not endpoint.path.endswith("{job}") and dice.random() < 0.9:
            # What is being deleted refuses nearly everything.
            endpoint = dice.choice(ENDPOINTS)
        method = endpoint.method if dice.random() < 0.8 else dice.choice(_METHODS)
        headers = self._headers()
        body = b""
        if dice.random() < (0.9 if endpoint.body or method in ("PUT", "PATCH", "POST") else 0.1):
            body = self._body(endpoint.body)
        return Request(method, (self._path(endpoint.path) + self._query(endpoint.query)).encode(), headers, body)

    def _path(self, template: str) -> str:
        dice = self.dice

        def name(match: re.Match[str]) -> str:
            known = _NAMES.get(match[1], ("x",))
            return dice.choice(known) if dice.random() < 0.9 else dice.choice(_SEGMENTS)

        parts = re.sub(r"\{(\w+)(?::path)?\}", name, template).split("/")
        while dice.random() < 0.25:
            place = dice.randrange(1, len(parts) + 1)
            match dice.randrange(5):
                case 0:
                    parts.insert(place, dice.choice(_SEGMENTS))
                case 1:
                    parts[place - 1 :] = parts[place:]
                case 2:
                    parts[place - 1 : place] = [dice.choice(_SEGMENTS)]
                case 3:
                    parts = [part.swapcase() for part in parts]
                case _:
                    parts.append(parts[place - 1])
            parts = parts or ["", ""]
        path = "/".join(parts)
        path = path if path.startswith("/") else f"/{path}"
        return quote(path, safe="/%{}*~$'\\:;,-._!()@&=+") if not path.isascii() or " " in path else path

    def _query(self, names: tuple[str, ...]) -> str:
        dice = self.dice
        version = dice.choice(_VERSIONS[:2]) if dice.random() < 0.85 else dice.choice(_VERSIONS)
        pairs = [] if dice.random() < 0.05 else [f"api-version={version}"]
        for name in names:
            if name == "outputdirectoryid" and dice.random() < 0.7:
                pairs.append(f"{name}=stdouterr")
            elif name != "follow" and dice.random() < 0.5:
                pairs.append(f"{name}={dice.choice(_VALUES)}")
        while dice.random() < 0.25:
            pairs.append(f"{dice.choice(_PARAMETERS)}={dice.choice(_VALUES)}")
        if dice.random() < 0.02:
            pairs += ["a=1"] * 200
        if dice.random() < 0.05:
            pairs.append(dice.choice(("&&&", "=", "%", "?", ";", "api-version")))
        dice.shuffle(pairs)
        return "?" + "&".join(pairs) if pairs else ""

    def _headers(self) -> tuple[tuple[bytes, bytes], ...]:
        dice = self.dice
        headers = [(b"Content-Type", _TYPES[0] if dice.random() < 0.8 else dice.choice(_TYPES))]
        if dice.random() < 0.9:
            token = b"Bearer " + self.token if dice.random() < 0.85 else self._wrong_token()
            headers.append((b"Authorization", token))
        while dice.random() < 0.3:
            headers.append(dice.choice(_OTHER_HEADERS))
        return tuple(headers)

    def _wrong_token(self) -> bytes:
        dice, token = self.dice, self.token
        return dice.choice(
            (
                b"", b"Bearer", b"Bearer ", b"Bearer " + token[:-1], b"Bearer " + token + b"x", b"Basic " + token,
                token, b"Bearer " + token.swapcase(), b"Bearer \xff\xfe\xe4",
                b"Bearer " + bytes(dice.choices(range(128, 256), k=40)), b"Bearer " + b"a" * 20_000,
                b"bearer\t" + token + b" " + token, b"Bearer eyJhbGciOiJub25lIn0.e30.", b"Bearer " + "💩".encode(),
                b"Bearer a.b.c", b"Bearer " + b"." * 300, b"Bearer null", b"Bearer {}",
                b"Bearer tsp_", b"Bearer tsp_a_b", b"Bearer tsp_" + b"a" * 40 + b"_" + b"b" * 40,
                b"Bearer tsp_\xff_\xfe",
                b"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJodHRwOi8vMTI3LjAuMC4xOjEifQ.AAAA",
            )
        )  # fmt: skip

    def _body(self, schema: str | None) -> bytes:
        dice = self.dice
        body = BODIES.get(
            schema or "", {"location": "local", "properties": {"sku": {"name": "x"}}, "tags": {}, "name": "account"}
        )
        for _ in range(dice.choice((0, 1, 1, 1, 2, 3))):
            body = self._bent(body)
        content = written(body, ensure_ascii=dice.random() < 0.5)
        match dice.randrange(20):
            case 0:
                return content[: dice.randrange(len(content) + 1)]
            case 1:
                return bytes(dice.choices(range(256), k=dice.randrange(300)))
            case 2:
                return content.decode().encode("utf-16")
            case 3:
                place = dice.randrange(len(content) + 1)
                return content[:place] + bytes(dice.choices(range(256), k=3)) + content[place:]
            case 4:
                return dice.choice(
                    (b"[" * 100_000, b'{"a":' * 50_000, b'"' * 9, b"\xef\xbb\xbf{}", b"null", b"3", b"\0" * 100)
                )
        return content

    def _bent(self, value: Any) -> Any:
        """The value with one part replaced, removed, renamed or repeated."""
        dice = self.dice
        if dice.random() < 0.25 or not isinstance(value, dict | list) or not value:
            return dice.choice(ODD)
        if isinstance(value, list):
            place = dice.randrange(len(value))
            return [*value[:place], self._bent(value[place]), *value[place:]]
        name = dice.choice(list(value))
        match dice.randrange(6):
            case 0:
                return {other: entry for other, entry in value.items() if other != name}
            case 1:
                return {**value, dice.choice((name.swapcase(), "", "a" * 3000, "💩", "properties")): value[name]}
        return {**value, name: self._bent(value[name])}
