"""A walk through the service: made-up requests in an order that makes sense, on names that mostly exist.

What comes back is checked in full. The walk is the same for the same seed, and a fault is told with the request that
met it and those before.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import unquote, urlencode, urlsplit

from tests.specification import rules
from tests.specification.cases import Made
from tests.specification.fitting import fitted
from tests.specification.operations import Judge, Operation, wrong_name, wrong_query
from tests.specification.wire import Answer, Request

#: Names that requests share, so that they meet; some in both cases, since names are the same in any.
_POOL = {
    "subscription": ["sub", "SUB"],
    "resourceGroup": ["Group", "group"],
    "location": ["local", "northeurope"],
    "workspace": ["ws", "Ws", "other"],
    "experiment": ["exp", "EXP", "more"],
    "cluster": ["c", "C", "auto"],
    "fileServer": ["nfs", "Nfs", "data"],
    "job": ["a", "B", "b", "d", "e", "f"],
    "array": ["sweep", "Sweep"],
    "account": ["first", "second1"],
    "namespace": ["Microsoft.BatchAI", "microsoft.storage"],
    "file": ["stdout.txt", "execution.log", "no.txt"],
}
#: Parameters whose names section 5 rules.
_RULED = frozenset(_POOL) - {"account", "namespace", "file"}
_RESOURCES = ("Workspace", "Experiment", "Cluster", "FileServer", "Job")
#: Refusals of a request that the specification's letter allows: of its time, or of what only the service knows.
_STATEFUL = frozenset(
    {
        "ClusterNotFound", "FileServerNotFound", "OutputDirectoryNotFound", "OutputDirectoryNotOnMountRoot",
        "OutputDirectoryNotReadable",
        "ClusterQuotaReached", "JobNodeCountExceedsCoreQuota", "QuotaExceeded", "AdministratorHasNoTokens",
        "DependencyNotFound", "TooManyDependencies",
    }
)  # fmt: skip
#: Their operations are Azure Resource Manager's own: a Location alone.
_RESOURCE_MANAGER = frozenset({"ResourceGroups_Delete", "SubscriptionOperations_Get"})
#: How often names exist, how often they are those of a resource that was made.
_KNOWN_NAMES, _MADE_BEFORE = 0.93, 0.85


class Site(Protocol):
    """Where the walk goes."""

    def authorization(self) -> tuple[bytes, bytes]: ...

    def send(self, request: Request) -> Answer: ...

    def end_some(self, dice: random.Random) -> None: ...

    def settle(self) -> None: ...


class Walk:
    """Plays cases of ``operations`` against a site.

    ``answers`` judges answers; ``letter`` says whether a body that was made to be wrong really is.
    """

    def __init__(
        self, site: Site, operations: Mapping[str, Operation], answers: Judge, letter: Judge, seed: int,
        version: str = "2018-05-01", most_nodes: int = 3,
    ) -> None:  # fmt: skip
        self.site = site
        self.operations = operations
        self.answers = answers
        self.letter = letter
        self.seed = seed
        self.version = version
        self.most_nodes = most_nodes
        self.dice = random.Random(seed)
        self.history: deque[str] = deque(maxlen=12)
        #: Answers by operation and status, and states of jobs that were seen.
        self.seen: Counter[tuple[str, int]] = Counter()
        self.job_states: Counter[str] = Counter()
        #: Entries of lists that were compared with the resource's own answer.
        self.listed = 0
        #: Links to a next page that were followed.
        self.links = 0
        self._made: dict[str, list[dict[str, str]]] = {}

    @property
    def played(self) -> int:
        """Cases so far."""
        return self.seen.total()

    def play(self, cases: Mapping[str, list[Made]], rounds: int) -> None:
        """All cases, in rounds: make, use, remove. Jobs end in between."""
        for turn in range(rounds):
            share = [made for each in cases.values() for made in each[turn::rounds]]
            for phase in ("make", "use", "remove"):
                if phase == "remove":
                    self.listed += self._check_lists()
                chosen = [made for made in share if _phase(made.operation) == phase]
                self.dice.shuffle(chosen)
                if phase == "make":
                    chosen.sort(key=lambda made: len(self.operations[made.operation].names))
                for number, made in enumerate(chosen, 1):
                    self.play_one(made)
                    if number % 25 == 0:
                        self.site.end_some(self.dice)
                        if self.dice.random() < 0.5:
                            self.site.settle()
            self.site.settle()

    def play_one(self, made: Made) -> Answer:
        """One case: the request, and every check of its answer."""
        request, params, known_names = self._request(made)
        self.history.append(str(request))
        try:
            answer = self.site.send(request)
            self.history.append(f"  -> {answer.status} {answer.body[:600]!r}")
            self.seen[made.operation, answer.status] += 1
            self._check(made, request, answer, known_names)
        except Exception as error:
            story = "\n".join(self.history)
            raise AssertionError(f"{made.operation}, seed {self.seed}, {made}: {error}\n{story}") from error
        if answer.status < 300:
            self._remember(self.operations[made.operation], params)
        return answer

    def _check_lists(self) -> int:
        """What lists show is what GET of each entry shows; returns how many entries there were."""
        seen = 0
        pending = [f"/subscriptions/{name}/providers/Microsoft.BatchAI/workspaces" for name in _POOL["subscription"]]
        while pending:
            for entry in self._get(pending.pop())["value"]:
                seen += 1
                assert _lasting(self._get(entry["id"])) == _lasting(entry)
                below = {"workspaces": ("experiments", "clusters", "fileServers"), "experiments": ("jobs",)}
                pending += [f"{entry['id']}/{kind}" for kind in below.get(entry["type"].rpartition("/")[2], ())]
        return seen

    def _get(self, path: str) -> dict[str, Any]:
        request = Request("GET", f"{path}?api-version={self.version}".encode(), (self.site.authorization(),))
        answer = self.site.send(request)
        assert answer.status == 200, f"{path}: {answer}"
        body: dict[str, Any] = answer.json()
        return body

    def _remember(self, operation: Operation, params: dict[str, str]) -> None:
        if _phase(operation.id) == "make":
            self._made.setdefault(_kind(operation.names[-1]), []).append(params)
        elif _phase(operation.id) == "remove":
            gone = {name: value.lower() for name, value in params.items()}
            for made in self._made.values():
                made[:] = [other for other in made if any(other.get(name, "").lower() != gone[name] for name in gone)]

    def _request(self, made: Made) -> tuple[Request, dict[str, str], bool]:
        operation = self.operations[made.operation]
        params, path = dict(made.path), operation.path
        known_names = made.forbidden != "path" and self.dice.random() < _KNOWN_NAMES
        if made.forbidden == "path":
            # One wrong name is enough; the others exist.
            wrong = {name for name, value in params.items() if wrong_name(name, value)}
            params |= {name: value for name, value in self._names(operation).items() if name not in wrong}
        elif known_names:
            params |= self._names(operation)
        for name, value in params.items():
            path = path.replace(f"{{{name}}}", value)
        query = {name: value for name, value in made.query.items() if value is not None}
        if made.forbidden != "query" and operation.path.startswith(("/subscriptions", "/providers")):
            query["api-version"] = self.version
        body = made.body
        if made.valid and isinstance(body, dict):
            body = fitted(body, self.dice, self._reference, self.most_nodes)
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        target = f"{path}?{urlencode(query, doseq=True, errors='replace')}".encode()
        headers = (
            self.site.authorization(),
            (b"Host", b"shed.test:8080"),
            (b"Accept", b"application/json"),
            (b"Content-Type", b"application/json; charset=utf-8"),
        )
        return Request(operation.method, target, headers, content), params, known_names

    def _names(self, operation: Operation) -> dict[str, str]:
        """Names of something that was made, or at least of something in it."""
        names = operation.names
        chosen = {name: self.dice.choice(_POOL[_kind(name)]) for name in names if _kind(name) in _POOL}
        places = names[:-1] if operation.id.endswith("_Create") else names
        if places and self.dice.random() < _MADE_BEFORE:
            made = self._made.get(_kind(places[-1]))
            if made:
                kinds = {_kind(name): value for name, value in self.dice.choice(made).items()}
                chosen |= {name: kinds[_kind(name)] for name in places if _kind(name) in kinds}
        return chosen

    def _reference(self, kind: str) -> str:
        """The id of a cluster or file server, usually one that was made."""
        made = self._made.get(kind)
        if made and self.dice.random() < _MADE_BEFORE:
            names = {_kind(name): value for name, value in self.dice.choice(made).items()}
        else:
            names = {name: self.dice.choice(values) for name, values in _POOL.items()}
        return (
            f"/subscriptions/{names['subscription']}/resourceGroups/{names['resourceGroup']}/providers/"
            f"Microsoft.BatchAI/workspaces/{names['workspace']}/{kind}s/{names[kind]}"
        )

    def _check(self, made: Made, request: Request, answer: Answer, known_names: bool) -> None:
        operation = self.operations[made.operation]
        assert answer.status < 500, "a fault of the service"
        rules.check_headers(request, answer)
        if answer.status >= 400:
            error = rules.check_error(request, answer)
            if made.valid:
                assert answer.status in (404, 409) or error["code"] in _STATEFUL, "refused what the document allows"
            return
        assert answer.status in operation.answers, f"status {answer.status} is not declared"
        if not made.valid:
            assert not self._is_wrong(made, operation), f"accepted although its {made.forbidden} is wrong"
        if answer.status == 202 and operation.id in _RESOURCE_MANAGER:
            assert "/operationresults/" in answer.headers["location"]
        elif answer.status == 202:
            rules.check_accepted(answer)
            self._check_operation(answer)
        else:
            rules.check_not_accepted(answer)
            self._check_body(operation, request, answer)

    def _is_wrong(self, made: Made, operation: Operation) -> bool:
        """Whether the request is forbidden indeed: making up a wrong one may miss its aim."""
        if made.forbidden == "body":
            body = made.body
            if isinstance(body, bytes):
                try:
                    body = json.loads(body)
                except ValueError:
                    return operation.body is not None and bool(body.strip())
            return self.letter.forbids_body(operation, body)
        if made.forbidden == "path":
            return any(
                wrong_name(name, value) and unquote(value) not in ("", ".", "..")
                for name, value in made.path.items()
                if _kind(name) in _RULED
            )
        return made.forbidden == "query" and wrong_query(operation, made.query)

    def _check_body(self, operation: Operation, request: Request, answer: Answer) -> None:
        schema = operation.answers[answer.status]
        single = schema is not None and schema["$ref"].rpartition("/")[2] in _RESOURCES
        rules.check_entity_headers(answer, single=single)
        if schema is None:
            assert answer.body == b"" or not answer.headers["content-type"].startswith("application/json")
            return
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        body = answer.json()
        assert answer.body == json.dumps(body, separators=(",", ":")).encode(), "not compact"
        self.answers.validate(schema, body)
        for resource in [body] if single else body.get("value", []):
            if "/providers/Microsoft.BatchAI/" in str(resource.get("id")):
                rules.check_resource(resource)
            if "executionState" in resource.get("properties", {}):
                self.job_states[resource["properties"]["executionState"]] += 1
        if "nextLink" in body:
            self._follow(schema, request, body)

    def _follow(self, schema: dict[str, Any], request: Request, page: dict[str, Any]) -> None:
        """All pages, with the same verb and nothing added: nothing twice."""
        places = [_place(entry) for entry in page["value"]]
        while "nextLink" in page:
            assert page["value"], "an empty page that is not the last"
            url = urlsplit(page["nextLink"])
            assert (url.scheme, url.netloc) == ("http", "shed.test:8080")
            answer = self.site.send(Request(request.method, f"{url.path}?{url.query}".encode(), request.headers))
            assert answer.status == 200
            self.links += 1
            page = answer.json()
            self.answers.validate(schema, page)
            places += [_place(entry) for entry in page["value"]]
        assert len(places) == len(set(places)), "an entry is on two pages"

    def _check_operation(self, accepted: Answer) -> None:
        """Both URLs answer as section 3 says, in any case of their fixed segments."""
        for name in ("azure-asyncoperation", "location"):
            url = urlsplit(accepted.headers[name])
            path = url.path.replace("/providers/", "/PROVIDERS/") if self.dice.random() < 0.1 else url.path
            request = Request("GET", f"{path}?{url.query}".encode(), (self.site.authorization(),))
            answer = self.site.send(request)
            rules.check_headers(request, answer)
            if name == "location" and answer.status == 202:
                rules.check_accepted(answer)
                continue
            assert answer.status == 200
            rules.check_entity_headers(answer, single=False)
            body = answer.json()
            wanted = {"id", "name", "status", "startTime"}
            if body["status"] == "InProgress":
                assert answer.headers["retry-after"].isdigit()
            else:
                assert body["status"] == "Succeeded"
                wanted |= {"endTime", "properties"}
                assert re.fullmatch(r"[^$]+(\$[^$]+){2,4}", body["properties"]["resourceId"])
            assert set(body) == wanted
            assert urlsplit(body["id"]).query == "" and body["id"].endswith(f"/operationresults/{body['name']}")


def _kind(parameter: str) -> str:
    """The documents' names of a parameter: ``workspaceName`` and ``workspace``, ``subscriptionId``, ``group``."""
    kind = parameter.removesuffix("Name").removesuffix("Id")
    return {"group": "resourceGroup"}.get(kind, kind)


def _phase(operation: str) -> str:
    return "make" if operation.endswith("_Create") else "remove" if operation.endswith("_Delete") else "use"


#: What the controller may change at any time, and why a job waits, which lists leave out.
_PASSING = frozenset(
    {
        "currentNodeCount", "executionInfo", "errors", "mountSettings", "attempt", "whyWaiting", "requeueReason",
        "nodeReasons",
    }
)  # fmt: skip


def _lasting(resource: dict[str, Any]) -> dict[str, Any]:
    """Without what passes."""
    properties = {
        name: value for name, value in resource["properties"].items() if "State" not in name and name not in _PASSING
    }
    return {**resource, "properties": properties}


def _place(entry: dict[str, Any]) -> Any:
    return entry.get("id") or entry.get("name") or entry.get("nodeId") or entry["sequence"]
