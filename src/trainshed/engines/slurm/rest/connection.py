"""Calls to one slurmrestd: token, version, errors."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from typing import Any

import httpx

from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.commands import Refused, Unsure, is_away
from trainshed.engines.slurm.rest import shapes
from trainshed.engines.slurm.rest.submission import Version
from trainshed.engines.slurm.rest.token import NoToken, Token
from trainshed.resources.reasons import Reason, ReasonCode

#: What this knows to read and to say; of later ones the documents are not known.
_OLDEST: Version = (0, 0, 38)
_NEWEST: Version = (0, 0, 45)
_PATH = re.compile(r"/(slurm|slurmdb)/v(\d+)\.(\d+)\.(\d+)/(.+?)/?")
_DOCUMENTS = ("/openapi/v3", "/openapi.json", "/openapi")
#: Numbers of Slurm's errors that are about the way to the controller (slurm_errno.h), or say nothing.
_ON_THE_WAY = range(1000, 2000)
_SOCKETS = range(5000, 5100)
_UNSPECIFIED = -1
#: With whose words an old slurmrestd refuses a token: it says no more to one that it does not know.
_AUTHENTICATION = ("authentication", "Unspecified error")
#: Seconds between two renewals of a token that may be good.
_DOUBT_SECONDS = 60.0


class Connection:
    """To ``http(s)://HOST:PORT`` or ``unix:/PATH``. Call ``close`` in the loop that used it."""

    def __init__(self, url: str, user: str, token: Token, timeout: float) -> None:
        self._url = url
        self._user = user
        self._token = token
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None
        self._version: Version | None = None
        self._negotiating = asyncio.Lock()
        self._offered: list[Version] = []
        self._paths: dict[tuple[str, str], str] = {}
        #: Monotonic seconds at which a token was last renewed on suspicion.
        self._doubted_at = -_DOUBT_SECONDS

    @property
    def place(self) -> str:
        """Where it is and what was agreed upon, for people."""
        agreed = f", {_name(self._version)} of {', '.join(map(_name, self._offered))}" if self._version else ""
        return f"slurmrestd at {self._url}{agreed}"

    async def version(self) -> Version:
        """The newest that both know. Raises EngineUnavailable."""
        async with self._negotiating:
            if self._version is None:
                self._version = await self._negotiate()
            return self._version

    async def user(self) -> str:
        """Whose jobs those of the service are. Raises EngineUnavailable."""
        if user := self._user or (await self._get_token())[1]:
            return user
        raise EngineUnavailable(self._away("the token does not say whose it is: set the engine's 'rest_user'"))

    async def offers(self, kind: str, name: str) -> bool:
        """Whether there is such a path in the version that was agreed upon. Raises EngineUnavailable."""
        await self.version()
        return (kind, name) in self._paths

    async def get(self, name: str, kind: str = "slurm") -> Any:
        """What ``/KIND/VERSION/NAME`` answers. Raises Refused, EngineUnavailable."""
        return await self._call("GET", name, kind)

    async def post(self, name: str, body: Any, user: str = "") -> Any:
        """The same, with effects. Raises Refused, EngineUnavailable; Unsure when it may have had them."""
        return await self._call("POST", name, "slurm", body, user)

    async def delete(self, name: str, user: str = "") -> Any:
        """The same."""
        return await self._call("DELETE", name, "slurm", None, user)

    async def close(self) -> None:
        """Let go of it."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _call(self, method: str, name: str, kind: str, body: Any = None, user: str = "") -> Any:
        path = await self._path(kind, name)
        answer = await self._send(method, path, body, user)
        if answer.status_code == 404 and not shapes.errors(_json(answer)):
            # slurmrestd was exchanged for one of other versions.
            self._version = None
            answer = await self._send(method, await self._path(kind, name), body, user)
        return self._read(answer)

    async def _path(self, kind: str, name: str) -> str:
        version = await self.version()
        return self._paths.get((kind, name)) or f"/{kind}/{_name(version)}/{name}"

    async def _negotiate(self) -> Version:
        for path in _DOCUMENTS:
            answer = await self._send("GET", path)
            document = _json(answer)
            if isinstance(document, dict) and isinstance(document.get("paths"), dict):
                return self._choose(document["paths"])
            if answer.status_code in (401, 403) or answer.status_code >= 500:
                self._read(answer)
        raise EngineUnavailable(self._away(f"it does not say which versions it has (HTTP {answer.status_code})"))

    def _choose(self, paths: dict[str, Any]) -> Version:
        found = [(match, path) for path in paths if (match := _PATH.fullmatch(path))]
        versions = sorted({_version(match) for match, _ in found if match[1] == "slurm"})
        known = [version for version in versions if _OLDEST <= version <= _NEWEST]
        if not known:
            offered = ", ".join(map(_name, versions)) or "none"
            text = f"it has versions {offered}, and this service knows {_name(_OLDEST)} to {_name(_NEWEST)}"
            raise EngineUnavailable(self._away(f"{text}; let slurmrestd offer one of these (its -d or -s)"))
        self._offered = versions
        self._paths = {(match[1], match[5]): path for match, path in found if _version(match) == known[-1]}
        return known[-1]

    async def _send(self, method: str, path: str, body: Any = None, user: str = "") -> httpx.Response:
        token, _ = await self._get_token()
        answer = await self._send_once(method, path, body, user, token)
        if not self._is_token_refused(method, answer):
            return answer
        again, _ = await self._get_token(refused=token)
        if again == token:
            return answer
        return await self._send_once(method, path, body, user, again)

    def _is_token_refused(self, method: str, answer: httpx.Response) -> bool:
        if answer.status_code in (401, 403):
            return True
        # 22.05 answers 500 without a word of why. A submission is not repeated for that: it may have been taken.
        said = [text for _, text in shapes.errors(_json(answer))]
        unclear = bool(said) and all(any(words in text for words in _AUTHENTICATION) for text in said)
        doubted = time.monotonic() - self._doubted_at < _DOUBT_SECONDS
        if answer.status_code < 500 or method != "GET" or not unclear or doubted:
            return False
        self._doubted_at = time.monotonic()
        return True

    async def _send_once(self, method: str, path: str, body: Any, user: str, token: str) -> httpx.Response:
        name = user or await self.user()
        headers = {"X-SLURM-USER-NAME": name, "X-SLURM-USER-TOKEN": token}
        try:
            return await self._http().request(method, path, json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise EngineUnavailable(self._away(str(error) or "it cannot be connected to")) from error
        except httpx.HTTPError as error:
            said = str(error) or f"it did not answer within {self._timeout:g} s"
            raise (EngineUnavailable if method == "GET" else Unsure)(self._away(said)) from error

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            base, socket = self._url, None
            if self._url.startswith("unix:"):
                base, socket = "http://localhost", self._url.removeprefix("unix:")
            # A connection a call: one that slurmrestd has dropped meanwhile would leave a submission unsure.
            limits = httpx.Limits(max_connections=8, max_keepalive_connections=0)
            transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
            self._client = httpx.AsyncClient(
                base_url=base, transport=transport, timeout=self._timeout, trust_env=False, follow_redirects=False
            )
        return self._client

    async def _get_token(self, refused: str = "") -> tuple[str, str]:
        try:
            return await self._token.get(refused)
        except NoToken as error:
            raise EngineUnavailable(self._away(str(error))) from error

    def _read(self, answer: httpx.Response) -> Any:
        found = _json(answer)
        told = shapes.errors(found)
        if answer.status_code < 400 and (not told or shapes.submitted(found)):
            # A job that is taken and cannot start now has its reason among the errors.
            return found
        said = "; ".join(text for _, text in told) or f"HTTP {answer.status_code}: {answer.text[:200]}"
        if answer.status_code in (401, 403):
            mend = "see that the token is of the user 'rest_user' (scontrol token) and signed with the site's key"
            raise EngineUnavailable(self._away(f"the token is refused ({said}); {mend}"))
        codes = [code for code, _ in told if code not in (None, 0)]
        lost = any(code in _ON_THE_WAY or code in _SOCKETS for code in codes) or is_away(said)
        nothing_said = answer.status_code >= 500 and all(code == _UNSPECIFIED for code in codes)
        if lost or nothing_said:
            raise EngineUnavailable(self._away(said))
        raise Refused(said)

    def _away(self, said: str) -> Reason:
        return Reason(
            ReasonCode.ENGINE_UNAVAILABLE,
            f"Slurm cannot be reached by slurmrestd at {self._url}: {said}. What was handed over goes on and is caught "
            "up with; see trainshed doctor, and slurmrestd's log.",
            {"said": said[:500]},
        )


def _json(answer: httpx.Response) -> Any:
    with suppress(ValueError, RecursionError):
        return answer.json()
    return None


def _version(match: re.Match[str]) -> Version:
    return int(match[2]), int(match[3]), int(match[4])


def _name(version: Version) -> str:
    return "v" + ".".join(map(str, version))
