"""One request as a handler sees it: the services, the version, the names in the path, and the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import Connection
from starlette.requests import Request

from trainshed.api import auditing
from trainshed.api.authorization import require
from trainshed.api.body import read_body
from trainshed.api.errors import ApiError
from trainshed.api.gate import CALLER, QUERY, VERSION
from trainshed.api.services import Services
from trainshed.identity import Caller, Scope
from trainshed.resources import ids, names
from trainshed.resources.lifecycle import ImpossibleTransition
from trainshed.resources.versions import ApiVersion
from trainshed.store import audit
from trainshed.store.errors import AlreadyExists, InUse, NotFound, StaleState

T = TypeVar("T")
#: How often a change is tried that another request's change got in the way of.
_TRIES = 3


class Call:
    """A request. Names in the path are checked when they are asked for (InvalidResource, 400)."""

    __slots__ = ("_audited_action", "request", "services")

    def __init__(self, request: Request, services: Services, audited_action: str | None = None) -> None:
        self.request = request
        self.services = services
        #: What to note in the audit log; None when there is nothing to note, or it was noted.
        self._audited_action = audited_action

    @property
    def caller(self) -> Caller:
        """Who is calling."""
        caller: Caller = self.request.scope[CALLER]
        return caller

    def require(self, action: str, scope: Scope) -> None:
        """Raises ApiError 403 unless the caller may do this there: for what the path alone does not tell."""
        require(self.caller, action, scope)

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters by lower-case name."""
        query: Mapping[str, str] = self.request.scope[QUERY]
        return query

    @property
    def version(self) -> ApiVersion:
        """The API version asked for; the newest on routes of other providers, which have versions of their own."""
        version: ApiVersion = self.request.scope.get(VERSION, ApiVersion.V2026_11_01)
        return version

    @property
    def newer(self) -> bool:
        """Whether the answer may have what 2018-05-01 does not."""
        return self.version is not ApiVersion.V2018_05_01

    @property
    def base_url(self) -> str:
        """Scheme and host as the client used them: links lead back the same way."""
        scope = self.request.scope
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        if not host:
            address = scope.get("server") or ("127.0.0.1", 80)
            host = f"{address[0]}:{address[1]}"
        return f"{scope['scheme']}://{host}"

    @property
    def path(self) -> str:
        """The path, decoded, its fixed segments in the contract's spelling."""
        path: str = self.request.scope["path"]
        return path

    def part(self, name: str) -> str:
        """A path parameter as it was given."""
        part: str = self.request.path_params[name]
        return part

    @property
    def subscription(self) -> str:
        """The subscription's id; any that could be one is accepted."""
        value = self.part("subscription")
        names.check_subscription(value)
        return value

    @property
    def group(self) -> str:
        """The resource group; groups exist by being used."""
        value = self.part("group")
        names.check_group(value)
        return value

    def name(self, noun: str) -> str:
        """The name of a ``workspace``, ``cluster``, ``experiment`` or ``job`` in the path."""
        value = self.part(noun)
        names.check_name(noun, value)
        return value

    @property
    def workspace_key(self) -> str:
        return ids.workspace_key(self.subscription, self.group, self.name("workspace"))

    @property
    def cluster_key(self) -> str:
        return ids.cluster_key(self.workspace_key, self.name("cluster"))

    @property
    def experiment_key(self) -> str:
        return ids.experiment_key(self.workspace_key, self.name("experiment"))

    @property
    def job_key(self) -> str:
        return ids.job_key(self.experiment_key, self.name("job"))

    async def body(self) -> bytes:
        """The body, at most 4 MiB."""
        return await read_body(self.request)

    def now(self) -> int:
        """Unix time in milliseconds."""
        return self.services.now_ms()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a short transaction, off the event loop."""
        return await self.services.db.read(query)

    async def write(self, change: Callable[[Connection], T], *, queue_only: bool = False) -> T:
        """Run a change in one transaction and wake the controller. Tried again when another request came between.

        ``queue_only``: the change concerns jobs and no cluster, experiment or workspace.

        Raises ApiError 409 when it still cannot be done.
        """
        action = self._audited_action

        def noted(tx: Connection) -> T:
            result = change(tx)
            if action is not None:
                audit.append(tx, auditing.entry(self.request, self.caller, action, self.now(), auditing.ACCEPTED))
            return result

        for remaining in reversed(range(_TRIES)):
            try:
                result = await self.services.db.write(noted)
            except (AlreadyExists, StaleState, NotFound, InUse, ImpossibleTransition) as error:
                if remaining:
                    continue
                raise ApiError(
                    409, "Conflict", f"Another change of the same resource came between ({error}). Try again."
                ) from error
            self._audited_action = None
            (self.services.wake_queue if queue_only else self.services.wake)()
            return result
        raise AssertionError("unreachable")

    async def note(self, outcome: str, status: int | None = None, code: str | None = None) -> None:
        """Note the request in the audit log, unless that is not wanted or was done."""
        if self._audited_action is None:
            return
        entry = auditing.entry(self.request, self.caller, self._audited_action, self.now(), outcome, status, code)
        self._audited_action = None
        await self.services.db.write(lambda tx: audit.append(tx, entry))
