"""Every role, every action, every place: who may do what, as a table written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.api.callers import make_caller
from tests.api.service import NEW, OLD, Service, cluster_body, job_body
from trainshed.api.authorization import OPEN, Reach
from trainshed.api.endpoints import ENDPOINTS
from trainshed.api.routing import Endpoint
from trainshed.identity.roles import ROLES

B, A, T = "Microsoft.BatchAI", "Microsoft.Authorization", "Trainshed"
S, R = "Microsoft.Storage", "Microsoft.Resources"
ROLE_OF = {
    "O": "Owner",
    "C": "Contributor",
    "R": "Reader",
    "J": "Job Submitter",
    "K": "Cluster Operator",
}
#: Which roles allow an action, by their letters. ``everybody``: whoever has signed in, without any role.
ALLOWED = {
    f"{B}/operations/read": "OCRJK",
    f"{B}/locations/operationresults/read": "OCRJK",
    f"{B}/locations/operationstatuses/read": "OCRJK",
    f"{B}/locations/usages/read": "OCRJK",
    f"{B}/locations/vmSizes/read": "OCRJK",
    f"{B}/workspaces/read": "OCRJK",
    f"{B}/workspaces/write": "OC",
    f"{B}/workspaces/delete": "OC",
    f"{B}/workspaces/schedulingRules/read": "OCRJK",
    f"{B}/workspaces/schedulingRules/write": "OC",
    f"{B}/workspaces/clusters/queue/read": "OCRJK",
    f"{B}/workspaces/clusters/read": "OCRJK",
    f"{B}/workspaces/clusters/write": "OCK",
    f"{B}/workspaces/clusters/delete": "OCK",
    f"{B}/workspaces/clusters/nodes/read": "OCRJK",
    f"{B}/workspaces/clusters/nodes/evict/action": "OCK",
    f"{B}/workspaces/clusters/events/read": "OCRJK",
    f"{B}/workspaces/clusters/remoteLoginInformation/action": "OCK",
    f"{B}/workspaces/clusters/submit/action": "OCJ",
    f"{B}/workspaces/fileservers/read": "OCRJK",
    f"{B}/workspaces/fileservers/write": "OCK",
    f"{B}/workspaces/fileservers/delete": "OCK",
    f"{B}/workspaces/fileservers/mount/action": "OCJK",
    f"{B}/workspaces/experiments/read": "OCRJK",
    f"{B}/workspaces/experiments/write": "OCJ",
    f"{B}/workspaces/experiments/delete": "OCJ",
    f"{B}/workspaces/experiments/jobs/read": "OCRJK",
    f"{B}/workspaces/experiments/jobs/write": "OCJ",
    f"{B}/workspaces/experiments/jobs/delete": "OCJ",
    f"{B}/workspaces/experiments/jobs/terminate/action": "OCJK",
    f"{B}/workspaces/experiments/jobs/preempt/action": "OCJK",
    f"{B}/workspaces/experiments/jobs/listoutputfiles/action": "OCJ",
    f"{B}/workspaces/experiments/jobs/plan/action": "OCJ",
    f"{B}/workspaces/experiments/jobs/remoteLoginInformation/action": "OCJK",
    f"{B}/workspaces/experiments/jobs/logs/read": "OCRJK",
    f"{B}/workspaces/experiments/jobs/attempts/read": "OCRJK",
    f"{B}/workspaces/experiments/jobs/explanation/read": "OCRJK",
    f"{B}/workspaces/experiments/jobs/events/read": "OCRJK",
    f"{B}/workspaces/code/read": "OCRJK",
    f"{B}/workspaces/code/write": "OCJ",
    f"{B}/register/action": "OC",
    f"{B}/unregister/action": "OC",
    f"{S}/storageAccounts/read": "OCR",
    f"{S}/storageAccounts/write": "OC",
    f"{S}/storageAccounts/delete": "OC",
    f"{S}/storageAccounts/listKeys/action": "OC",
    f"{S}/storageAccounts/regenerateKey/action": "OC",
    f"{S}/storageAccounts/files/list/action": "OC",
    f"{S}/storageAccounts/files/write": "OC",
    f"{S}/storageAccounts/files/delete": "OC",
    f"{S}/checknameavailability/read": "OCR",
    f"{R}/tenants/read": "OCRJK",
    f"{R}/subscriptions/read": "OCRJK",
    f"{R}/subscriptions/locations/read": "OCRJK",
    f"{R}/subscriptions/providers/read": "OCRJK",
    f"{R}/subscriptions/operationresults/read": "OCRJK",
    f"{R}/subscriptions/resourceGroups/read": "OCRJK",
    f"{R}/subscriptions/resourceGroups/write": "OC",
    f"{R}/subscriptions/resourceGroups/delete": "OC",
    f"{A}/roleAssignments/read": "OCR",
    f"{A}/roleAssignments/write": "O",
    f"{A}/roleAssignments/delete": "O",
    f"{A}/roleDefinitions/read": "OCR",
    f"{T}.Identity/principals/read": "OCR",
    f"{T}.Identity/principals/write": "O",
    f"{T}.Identity/principals/delete": "O",
    f"{T}.Identity/principals/tokens/read": "OCR",
    f"{T}.Identity/principals/tokens/write": "O",
    f"{T}.Identity/principals/tokens/delete": "O",
    f"{T}.Identity/me/read": "everybody",
    f"{T}.Identity/me/tokens/read": "everybody",
    f"{T}.Identity/me/tokens/write": "everybody",
    f"{T}.Identity/me/tokens/delete": "everybody",
    f"{T}.Audit/entries/read": "OCR",
    f"{T}.Vault/rotate/action": "O",
}
#: Asked for by handlers, in addition to the endpoint's own.
WITHIN_HANDLERS = {f"{B}/workspaces/clusters/submit/action", f"{B}/workspaces/fileservers/mount/action"}

OWN, NEIGHBOUR, OTHER_GROUP, OTHER_SUBSCRIPTION = PLACES = (
    {"subscription": "sub", "group": "Group", "workspace": "ws"},
    {"subscription": "sub", "group": "Group", "workspace": "neighbour"},
    {"subscription": "sub", "group": "elsewhere", "workspace": "ws"},
    {"subscription": "another", "group": "Group", "workspace": "ws"},
)
#: Where the role is held, and whether it reaches what lies in each place: own workspace, another workspace, another
#: group, another subscription.
HELD_AT = {
    "/subscriptions/sub/resourceGroups/GROUP/providers/Microsoft.BatchAI/workspaces/WS": (True, False, False, False),
    "/subscriptions/sub/resourceGroups/group": (True, True, False, False),
    "/subscriptions/sub": (True, True, True, False),
    "/": (True, True, True, True),
}
#: The same for paths that end at a group, at a subscription, or name no place at all. The first of a pair is for
#: paths that need the action right there, the second for lists of what is within.
AT_GROUP = {
    "ws": ((False, False, False, False), (True, True, False, False)),
    "group": ((True, True, False, False), (True, True, False, False)),
    "sub": ((True, True, True, False), (True, True, True, False)),
    "/": ((True, True, True, True), (True, True, True, True)),
}
AT_SUBSCRIPTION = {
    "ws": ((False, False, False, False), (True, True, True, False)),
    "group": ((False, False, False, False), (True, True, True, False)),
    "sub": ((True, True, True, False), (True, True, True, False)),
    "/": ((True, True, True, True), (True, True, True, True)),
}
NOWHERE = {
    "ws": ((False,) * 4, (True,) * 4),
    "group": ((False,) * 4, (True,) * 4),
    "sub": ((False,) * 4, (True,) * 4),
    "/": ((True,) * 4, (True,) * 4),
}
NAMES = {
    "cluster": "c",
    "node": "tvm-1_1-absent",
    "experiment": "exp",
    "job": "j",
    "array": "sweep",
    "fileServer": "f",
    "file": "stdout.txt",
    "location": "local",
    "operation": "00000000-0000-0000-0000-00000000dead",
    "sha256": "0" * 64,
    "snapshot": "0" * 64,
    "assignment": "5b1d5c0e-6a9e-4e0b-9d0c-000000000001",
    "role": "Reader",
    "account": "absent0account",
    "service": "files",
    "volume": "share",
    "namespace": "Microsoft.BatchAI",
    "principal": "nobody-of-this-name",
    "token": "0" * 24,
}

GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint.action != OPEN]


def test_every_endpoint_names_its_action_and_the_table_names_every_action() -> None:
    nameless = [f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS if not endpoint.action]
    assert not nameless
    assert {endpoint.action for endpoint in GUARDED} | WITHIN_HANDLERS == set(ALLOWED)
    assert set(ROLE_OF.values()) == set(ROLES)


def test_only_probes_and_signed_links_are_open() -> None:
    assert {endpoint.path for endpoint in ENDPOINTS if endpoint.action == OPEN} == {
        "/files/{uid}/{directory}/{path:path}",
        "/healthz",
        "/readyz",
    }


def _path(endpoint: Endpoint, place: dict[str, str]) -> str:
    path = endpoint.path
    for name in endpoint.parameters:
        path = path.replace(f"{{{name}}}", place.get(name) or NAMES[name])
    return path


def _reaches(endpoint: Endpoint, held_at: str) -> tuple[bool, ...]:
    """Whether a role that is held there counts for this path in each of the places, from the tables above."""
    if "workspace" in endpoint.parameters:
        return HELD_AT[held_at]
    tables = AT_GROUP if "group" in endpoint.parameters else NOWHERE
    if "group" not in endpoint.parameters and "subscription" in endpoint.parameters:
        tables = AT_SUBSCRIPTION
    level = ("ws", "group", "sub", "/")[list(HELD_AT).index(held_at)]
    return tables[level][endpoint.reach is Reach.WITHIN]


@pytest.fixture
def everywhere(service: Service) -> Service:
    """The same resources in each of the places."""
    for place in PLACES:
        base = _workspace(place)
        assert service.send("PUT", base, {"location": "local"}).status_code == 200
        assert service.send("PUT", f"{base}/experiments/exp").status_code == 200
        assert service.send("PUT", f"{base}/clusters/c", cluster_body()).status_code == 202
        assert service.send("PUT", f"{base}/experiments/exp/jobs/j", _job(place)).status_code == 202
    return service


def _workspace(place: dict[str, str]) -> str:
    return (
        f"/subscriptions/{place['subscription']}/resourceGroups/{place['group']}"
        f"/providers/Microsoft.BatchAI/workspaces/{place['workspace']}"
    )


def _job(place: dict[str, str], **properties: object) -> dict[str, object]:
    return job_body(cluster={"id": f"{_workspace(place)}/clusters/c"}, **properties)


def _body(endpoint: Endpoint, place: dict[str, str]) -> object:
    if endpoint.operation_id == "Jobs_Create":
        return _job(place)
    return None if endpoint.method in ("GET", "DELETE") else {}


@pytest.mark.slow
@pytest.mark.parametrize("letter", ROLE_OF)
def test_each_role_may_do_what_the_table_says_and_where(everywhere: Service, letter: str) -> None:
    wrong: list[str] = []
    cells = 0
    for held_at in HELD_AT:
        token = make_caller(everywhere, f"caller {held_at}".replace("/", "|"), (ROLE_OF[letter], held_at))
        for endpoint in GUARDED:
            everybody = ALLOWED[endpoint.action] == "everybody"
            for place, reached in zip(PLACES, _reaches(endpoint, held_at), strict=True):
                version = NEW if endpoint.newer else OLD
                answer = everywhere.send(
                    endpoint.method, _path(endpoint, place), _body(endpoint, place), version=version, token=token
                )
                cells += 1
                expected = everybody or (reached and letter in ALLOWED[endpoint.action])
                refused = answer.status_code == 403
                if refused and endpoint.method != "HEAD":
                    assert answer.json()["error"]["code"] == "AuthorizationFailed"
                # The audit log is asked for as a whole here, and needs the role there.
                if endpoint.operation_id == "Audit_List":
                    expected = expected and held_at == "/"
                if refused is expected or answer.status_code >= 500:
                    wrong.append(f"{endpoint.method} {_path(endpoint, place)}: {answer.status_code}, role at {held_at}")
    assert not wrong, "\n".join(wrong)
    assert cells == len(HELD_AT) * len(PLACES) * len(GUARDED)


@pytest.mark.slow
@pytest.mark.parametrize("letter", ROLE_OF)
def test_the_cluster_of_a_job_needs_a_role_of_its_own(everywhere: Service, letter: str) -> None:
    may_submit = letter in ALLOWED[f"{B}/workspaces/clusters/submit/action"]
    for held_at, reached in HELD_AT.items():
        # The job itself is allowed in the own workspace; the cluster lies in each of the places.
        roles = {(ROLE_OF[letter], held_at.lower()), ("Job Submitter", _workspace(OWN).lower())}
        token = make_caller(everywhere, f"caller {held_at}".replace("/", "|"), *sorted(roles))
        for number, (place, counts) in enumerate(zip(PLACES, reached, strict=True)):
            for cluster in ("c", "absent"):
                cluster_id = f"{_workspace(place)}/clusters/{cluster}"
                name = f"j-{letter}-{list(HELD_AT).index(held_at)}-{number}-{cluster}"
                answer = everywhere.send(
                    "PUT", f"{_workspace(OWN)}/experiments/exp/jobs/{name}", job_body(cluster={"id": cluster_id}),
                    token=token,
                )  # fmt: skip
                if place is OWN or (counts and may_submit):
                    assert answer.status_code == (202 if cluster == "c" else 400), answer.text
                else:
                    _assert_refused(answer.status_code, answer.json(), "clusters/submit/action", _workspace(place))


def test_a_refusal_names_action_and_scope_and_nothing_of_what_exists(everywhere: Service) -> None:
    token = make_caller(everywhere, "eve", ("Reader", _workspace(OWN)))
    there, absent = _workspace(NEIGHBOUR), _workspace({**NEIGHBOUR, "workspace": "neighbou2"})
    for suffix in ("", "/clusters", "/clusters/c", "/experiments/exp/jobs/j", "/clusters/x y", "/experiments/exp"):
        answers = [everywhere.send("GET", f"{base}{suffix}", token=token) for base in (there, absent)]
        bodies = [json.dumps(answer.json()).replace("neighbou2", "neighbour") for answer in answers]
        assert bodies[0] == bodies[1]
        assert [answer.status_code for answer in answers] == [403, 403]
        assert "eve" in bodies[0]
        assert set(answers[0].headers) == set(answers[1].headers)


def _assert_refused(status: int, body: dict[str, object], action: str, scope: str) -> None:
    assert status == 403, body
    error = body["error"]
    assert isinstance(error, dict)
    assert error["code"] == "AuthorizationFailed"
    assert action in error["message"]
    assert scope.lower() in error["message"].lower()


def test_lists_show_only_what_the_caller_may_see(everywhere: Service) -> None:
    token = make_caller(everywhere, "ann", ("Reader", _workspace(OWN)), ("Reader", "/subscriptions/another"))
    group = "/subscriptions/sub/resourceGroups/Group/providers/Microsoft.BatchAI/workspaces"
    for path in (group, "/subscriptions/sub/providers/Microsoft.BatchAI/workspaces"):
        assert list(_names(everywhere, path, token)) == ["ws"]
        assert len(list(_names(everywhere, path, "right"))) >= 2
    everything = _names(everywhere, "/subscriptions/another/providers/Microsoft.BatchAI/workspaces", token)
    assert list(everything) == ["ws"]
    assert everywhere.send("GET", group.replace("/Group/", "/elsewhere/"), token=token).status_code == 403


def test_pages_of_a_filtered_list_are_full_and_complete(service: Service) -> None:
    base = "/subscriptions/sub/resourceGroups/g/providers/Microsoft.BatchAI/workspaces"
    for number in range(12):
        service.send("PUT", f"{base}/w{number:02}", {"location": "local"})
    mine = [f"w{number:02}" for number in (1, 5, 6, 11)]
    token = make_caller(service, "ann", *(("Reader", f"{base}/{name}") for name in mine))
    assert list(_names(service, base, token, maxresults=2)) == mine


def _names(service: Service, path: str, token: str, **query: int) -> Iterator[str]:
    answer = service.send("GET", path, token=token, **query).json()
    while True:
        if query:
            assert len(answer["value"]) <= query["maxresults"]
        yield from (entry["name"] for entry in answer["value"])
        if "nextLink" not in answer:
            return
        answer = service.send("GET", answer["nextLink"], version=None, token=token).json()


def test_operations_are_seen_where_they_work(everywhere: Service) -> None:
    started = everywhere.send("DELETE", f"{_workspace(NEIGHBOUR)}/clusters/c")
    mine = make_caller(everywhere, "ann", ("Job Submitter", _workspace(NEIGHBOUR)))
    other = make_caller(everywhere, "eve", ("Owner", _workspace(OWN)))
    for header in ("Azure-AsyncOperation", "Location"):
        assert everywhere.send("GET", started.headers[header], version=None, token=mine).status_code < 300
        assert everywhere.send("GET", started.headers[header], version=None, token=other).status_code == 404


def test_whoever_has_no_role_sees_nothing_but_themselves(everywhere: Service) -> None:
    token = make_caller(everywhere, "new")
    assert everywhere.send("GET", "/providers/Trainshed.Identity/me", token=token, version=NEW).status_code == 200
    for path in (_workspace(OWN), "/subscriptions/sub/providers/Microsoft.BatchAI/workspaces"):
        assert everywhere.send("GET", path, token=token).status_code == 403
