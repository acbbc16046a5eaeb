"""From tokens to callers: access tokens, an OpenID issuer, lock-outs, and what the database keeps of them."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.callers import DAY, make_caller
from tests.api.service import BASE, NEW, WS, Service
from tests.support.issuer import AUDIENCE, LoopbackIssuer
from trainshed.api.app import create_app
from trainshed.api.authentication import Authenticator
from trainshed.identity.oidc import Issuer, Verifier
from trainshed.store import principals

ME = "/providers/Trainshed.Identity/me"
PRINCIPALS = "/providers/Trainshed.Identity/principals"
ASSIGNMENTS = "providers/Microsoft.Authorization/roleAssignments"


def send(service: Service, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
    return service.send(method, path, body, version=NEW, **more)


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


@pytest.fixture
def signed_in(service: Service) -> Iterator[LoopbackIssuer]:
    """The service trusts an issuer."""
    with LoopbackIssuer() as issuer:
        verifier = Verifier((Issuer(issuer.url, (AUDIENCE,)),))
        authenticator = Authenticator(service.db, service.tokens, verifier, service.clock)
        service.services = dataclasses.replace(service.services, authenticator=authenticator)
        service.app = create_app(service.services)
        service.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(service.app, raise_app_exceptions=False), base_url=BASE, timeout=10
        )
        yield issuer


def test_an_administrator_is_an_owner_of_everything(service: Service) -> None:
    me = send(service, "GET", ME).json()
    assert me["name"] == "administrator"
    assert me["properties"]["roles"] == [{"role": "Owner", "scope": "/"}]
    refused = send(service, "POST", f"{ME}/tokens", {"properties": {"displayName": "x"}})
    assert (refused.status_code, code(refused)) == (400, "AdministratorHasNoTokens")


def test_a_token_made_over_the_wire_works_until_it_is_revoked(service: Service) -> None:
    made = send(service, "PUT", f"{PRINCIPALS}/ann@example.org", {"properties": {"displayName": "Ann"}})
    assert made.status_code == 201
    service.send("PUT", WS, {"location": "local"})
    grant = {"properties": {"roleDefinitionId": "Reader", "principalId": "ann@example.org"}}
    assert send(service, "PUT", f"{WS}/{ASSIGNMENTS}/{uuid.uuid4()}", grant).status_code == 201
    tokens = f"{PRINCIPALS}/ann@example.org/tokens"
    answer = send(service, "POST", tokens, {"properties": {"displayName": "laptop", "expiresInDays": 7}})
    assert answer.status_code == 201
    token = answer.json()["properties"]["token"]
    assert send(service, "GET", WS, token=token).status_code == 200
    assert send(service, "DELETE", WS, token=token).status_code == 403
    shown = send(service, "GET", f"{ME}/tokens", token=token).json()["value"]
    assert [entry["properties"]["state"] for entry in shown] == ["active"]
    assert "lastUseTime" in shown[0]["properties"]
    assert token not in str(shown)
    assert send(service, "DELETE", f"{ME}/tokens/{shown[0]['name']}", token=token).status_code == 200
    refused = send(service, "GET", WS, token=token)
    assert (refused.status_code, code(refused)) == (401, "AuthenticationFailed")
    assert "revoked" in refused.text
    assert send(service, "GET", tokens).json()["value"][0]["properties"]["state"] == "revoked"


def test_a_token_expires(service: Service) -> None:
    token = make_caller(service, "ann", ("Owner", "/"), days=2)
    assert send(service, "GET", ME, token=token).status_code == 200
    service.clock.now += 2 * DAY
    service.services.authenticator.forget()
    assert send(service, "GET", ME, token=token).status_code == 401


def test_no_token_but_the_right_one_is_accepted(service: Service) -> None:
    token = make_caller(service, "ann", ("Owner", "/"))
    last = "A" if token[-1] != "A" else "B"
    for wrong in (token[:-1] + last, token[:-1], token + "x", token.upper(), "tsp_", f"tsp_{'0' * 24}_{'A' * 43}",
                  "é" * 20, service.tokens.admin[:-1], "", "null"):  # fmt: skip
        encoded = wrong.encode()
        answer = service.run(
            service.http.request(
                "GET", ME, params={"api-version": NEW}, headers={"Authorization": b"Bearer " + encoded}
            )
        )
        assert answer.status_code == 401, wrong
        assert (wrong or "Bearer x") not in answer.text
    for scheme in (f"Basic {token}", token, f"Bearer{token}"):
        answer = service.run(
            service.http.request("GET", ME, params={"api-version": NEW}, headers={"Authorization": scheme})
        )
        assert answer.status_code == 401


def test_a_lock_out_counts_at_once_and_can_be_undone(service: Service) -> None:
    token = make_caller(service, "ann", ("Reader", "/"))
    assert send(service, "GET", ME, token=token).status_code == 200
    for disabled, status in ((True, 401), (False, 200)):
        changed = send(service, "PUT", f"{PRINCIPALS}/ann", {"properties": {"disabled": disabled}})
        assert changed.json()["properties"]["disabled"] is disabled
        assert send(service, "GET", ME, token=token).status_code == status
    assert send(service, "DELETE", f"{PRINCIPALS}/ann").status_code == 200
    assert send(service, "GET", ME, token=token).status_code == 401
    assert send(service, "DELETE", f"{PRINCIPALS}/ann").status_code == 204


def test_a_role_that_is_taken_away_counts_no_longer(service: Service) -> None:
    service.send("PUT", WS, {"location": "local"})
    token = make_caller(service, "ann", ("Reader", WS))
    assert send(service, "GET", WS, token=token).status_code == 200
    listed = send(service, "GET", f"{WS}/{ASSIGNMENTS}").json()["value"]
    assert send(service, "DELETE", f"{WS}/{ASSIGNMENTS}/{listed[0]['name']}").status_code == 200
    assert send(service, "GET", WS, token=token).status_code == 403


def test_a_limited_token_allows_less_and_makes_no_other(service: Service) -> None:
    service.send("PUT", WS, {"location": "local"})
    token = make_caller(service, "ann", ("Owner", "/"), limit=("Reader", WS))
    assert send(service, "GET", WS, token=token).status_code == 200
    assert send(service, "GET", ME, token=token).json()["properties"]["tokenAllows"]["role"] == "Reader"
    for method, path, body in (
        ("DELETE", WS, None),
        ("GET", WS.replace("ws", "other"), None),
        ("POST", f"{ME}/tokens", {"properties": {"displayName": "x"}}),
        ("GET", PRINCIPALS, None),
    ):
        assert send(service, method, path, body, token=token).status_code == 403, path


def test_a_token_cannot_prolong_its_own_life(service: Service) -> None:
    token = make_caller(service, "ann", days=2)
    made = send(
        service, "POST", f"{ME}/tokens", {"properties": {"displayName": "x", "expiresInDays": 300}}, token=token
    )
    listed = send(service, "GET", f"{ME}/tokens", token=token).json()["value"]
    assert len({entry["properties"]["expiryTime"] for entry in listed}) == 1
    limited = {"displayName": "y", "role": "reader", "scope": WS}
    made = send(service, "POST", f"{ME}/tokens", {"properties": limited}, token=token).json()["properties"]
    assert (made["role"], made["scope"].lower()) == ("Reader", WS.lower())


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({}, "properties"),
        ({"properties": {}}, "displayName"),
        ({"properties": {"displayName": "x", "expiresInDays": 0}}, "expiresInDays"),
        ({"properties": {"displayName": "x", "expiresInDays": 367}}, "expiresInDays"),
        ({"properties": {"displayName": "x", "expires": 5}}, "expires"),
        ({"properties": {"displayName": "x", "role": "King"}}, "role"),
        ({"properties": {"displayName": "x", "scope": "/nowhere"}}, "scope"),
    ],
)
def test_wrong_tokens_are_refused(service: Service, body: Any, target: str) -> None:
    token = make_caller(service, "ann")
    send(service, "GET", ME, token=token)
    before = service.dump()
    answer = send(service, "POST", f"{ME}/tokens", body, token=token)
    assert answer.status_code == 400
    assert target in answer.json()["error"]["target"]
    assert service.dump() == before


@pytest.mark.parametrize(
    "name", ["administrator", "me", "a\x01b", " x", "5b1d5c0e-6a9e-4e0b-9d0c-000000000001", "x" * 129]
)
def test_wrong_names_of_principals_are_refused(service: Service, name: str) -> None:
    answer = send(service, "PUT", f"{PRINCIPALS}/{name}".replace("\x01", "%01").replace(" ", "%20"))
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("assignment", "body", "status", "problem"),
    [
        ("x", {"roleDefinitionId": "Reader", "principalId": "ann"}, 400, "InvalidRoleAssignmentId"),
        (None, {"roleDefinitionId": "King", "principalId": "ann"}, 400, "RoleDefinitionDoesNotExist"),
        (None, {"roleDefinitionId": "Reader", "principalId": "bob"}, 400, "PrincipalNotFound"),
        (
            None,
            {"roleDefinitionId": "Reader", "principalId": "5b1d5c0e-6a9e-4e0b-9d0c-000000000001"},
            400,
            "PrincipalNotFound",
        ),
        (None, {"roleDefinitionId": "Reader"}, 400, "InvalidRequestContent"),
        (None, {"roleDefinitionId": "Owner", "principalId": "ann"}, 409, "RoleAssignmentExists"),
    ],
)
def test_wrong_role_assignments_are_refused(
    service: Service, assignment: str | None, body: Any, status: int, problem: str
) -> None:
    make_caller(service, "ann", ("Owner", "/subscriptions/sub"))
    path = f"/subscriptions/sub/{ASSIGNMENTS}/{assignment or uuid.uuid4()}"
    answer = send(service, "PUT", path, {"properties": body})
    assert (answer.status_code, code(answer)) == (status, problem), answer.text


def test_assignments_repeat_and_conflict_as_azures(service: Service) -> None:
    make_caller(service, "ann")
    path = f"/subscriptions/sub/{ASSIGNMENTS}/{uuid.uuid4()}"
    owner = "/subscriptions/sub/providers/Microsoft.Authorization/roleDefinitions/8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
    body = {"properties": {"roleDefinitionId": owner, "principalId": "ann", "principalType": "User"}}
    first, again = (send(service, "PUT", path, body) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == send(service, "GET", path).json()
    assert first.json()["properties"]["roleDefinitionId"] == owner
    other = {"properties": {"roleDefinitionId": "Reader", "principalId": "ann"}}
    assert code(send(service, "PUT", path, other)) == "RoleAssignmentUpdateNotPermitted"
    no_group = send(service, "PUT", f"{WS}/{ASSIGNMENTS}/{uuid.uuid4()}", body)
    assert (no_group.status_code, code(no_group)) == (404, "ResourceGroupNotFound")
    service.send("PUT", f"{WS}-other", {"location": "local"})
    absent = send(service, "PUT", f"{WS}/{ASSIGNMENTS}/{uuid.uuid4()}", body)
    assert (absent.status_code, code(absent)) == (404, "WorkspaceNotFound")
    assert send(service, "DELETE", path).status_code == 200
    assert send(service, "DELETE", path).status_code == 204
    assert send(service, "GET", path).status_code == 404


def test_lists_of_assignments_can_be_filtered(service: Service) -> None:
    service.send("PUT", WS, {"location": "local"})
    group = WS.partition("/providers")[0]
    make_caller(service, "ann", ("Reader", "/"), ("Owner", WS))
    make_caller(service, "bob", ("Contributor", group))

    def listed(scope: str, **query: Any) -> set[str]:
        answer = send(service, "GET", f"{scope}/{ASSIGNMENTS}", **query)
        return {entry["properties"]["roleName"] for entry in answer.json()["value"]}

    assert listed(group) == {"Reader", "Contributor", "Owner"}
    assert listed(group, **{"$filter": "atScope()"}) == {"Reader", "Contributor"}
    assert listed("", **{"$filter": "assignedTo('ann')"}) == {"Reader", "Owner"}
    assert listed(group, **{"$filter": "principalId eq 'bob'"}) == {"Contributor"}
    refused = send(service, "GET", f"{group}/{ASSIGNMENTS}", **{"$filter": "nonsense"})
    assert refused.status_code == 400
    roles = send(service, "GET", f"{group}/providers/Microsoft.Authorization/roleDefinitions").json()["value"]
    assert len(roles) == 5
    for role in roles:
        assert send(service, "GET", role["id"]).json()["properties"]["roleName"] == role["properties"]["roleName"]


def test_people_of_an_issuer_become_principals_without_roles(service: Service, signed_in: LoopbackIssuer) -> None:
    token = signed_in.token(time.time())
    me = send(service, "GET", ME, token=token).json()
    assert me["name"] == "ann@example.org"
    assert me["properties"]["roles"] == []
    assert send(service, "GET", WS, token=token).status_code == 403
    service.send("PUT", WS, {"location": "local"})
    grant = {"properties": {"roleDefinitionId": "Reader", "principalId": "ann@example.org"}}
    send(service, "PUT", f"{WS}/{ASSIGNMENTS}/{uuid.uuid4()}", grant)
    assert send(service, "GET", WS, token=token).status_code == 200
    # Somebody else of the same name is somebody else.
    other = send(service, "GET", ME, token=signed_in.token(time.time(), sub="subject-2")).json()
    assert other["name"] != "ann@example.org"
    assert other["properties"]["principalId"] != me["properties"]["principalId"]
    impostor = send(
        service, "GET", ME, token=signed_in.token(time.time(), sub="s3", preferred_username="administrator")
    )
    assert impostor.json()["name"] != "administrator"
    assert impostor.json()["properties"]["administrator"] is False
    assert service.db.read_sync(principals.count) == 3


def test_bad_tokens_of_an_issuer_are_refused_and_introduce_nobody(service: Service, signed_in: LoopbackIssuer) -> None:
    now = time.time()
    for changed in ({"exp": now - 100}, {"aud": "else"}, {"iss": "https://evil.example"}):
        answer = send(service, "GET", ME, token=signed_in.token(now, **changed))
        assert (answer.status_code, code(answer)) == (401, "AuthenticationFailed")
    assert service.db.read_sync(principals.count) == 0


def test_an_issuer_that_is_down_is_told_apart_from_a_bad_token(service: Service, signed_in: LoopbackIssuer) -> None:
    signed_in.down = True
    answer = send(service, "GET", ME, token=signed_in.token(time.time()))
    assert (answer.status_code, code(answer)) == (503, "IdentityProviderUnavailable")
    assert answer.headers["retry-after"]


def test_the_database_keeps_no_token(service: Service) -> None:
    token = make_caller(service, "ann", ("Owner", "/"))
    send(service, "GET", ME, token=token)
    found = b"".join(path.read_bytes() for path in service.home.glob("trainshed.db*"))
    assert b"tsp_" not in found
    assert token[-43:].encode() not in found
