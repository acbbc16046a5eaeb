"""Scopes hold what is below them; roles match actions as Azure's do; a token can only take away."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.identity import ADMINISTRATOR, Caller, Grant, PrincipalKind, Scope
from trainshed.identity.roles import ROLES, permits, role_named
from trainshed.identity.scopes import holds
from trainshed.resources.errors import InvalidResource

pytestmark = pytest.mark.slow

WORKSPACE = "/subscriptions/S/resourcegroups/G/providers/microsoft.batchai/Workspaces/W"


@pytest.mark.parametrize(
    ("text", "key", "shown"),
    [
        ("/", "/", "/"),
        ("/subscriptions/S", "/s", "/subscriptions/S"),
        ("/Subscriptions/S/", "/s", "/subscriptions/S"),
        ("/subscriptions/S/RESOURCEGROUPS/G", "/s/g", "/subscriptions/S/resourceGroups/G"),
        (WORKSPACE, "/s/g/w", "/subscriptions/S/resourceGroups/G/providers/Microsoft.BatchAI/workspaces/W"),
    ],
)
def test_a_scope_is_read_in_any_case(text: str, key: str, shown: str) -> None:
    scope = Scope.parse(text)
    assert (scope.key, str(scope)) == (key, shown)
    assert Scope.of_key(key).key == key


@pytest.mark.parametrize(
    "text",
    ["", "subscriptions/s", "/subscriptions", "/resourceGroups/g", "/subscriptions/s/resourceGroups", "/a/b", "//x",
     "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/workspaces/w", f"{WORKSPACE}/clusters/c",
     "/subscriptions/s t", "/subscriptions/s/resourceGroups/g.", "/subscriptions/../resourceGroups/g/x/y"],
)  # fmt: skip
def test_anything_else_is_no_scope(text: str) -> None:
    with pytest.raises(InvalidResource) as error:
        Scope.parse(text)
    assert error.value.code == "InvalidScope"


_KEYS = st.lists(st.sampled_from(["a", "ab", "b"]), max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(_KEYS, _KEYS)
def test_a_scope_holds_itself_and_what_is_below_by_whole_names(outer: str, inner: str) -> None:
    ours, theirs = [part for part in outer.split("/") if part], [part for part in inner.split("/") if part]
    assert holds(outer, inner) is (theirs[: len(ours)] == ours)


@pytest.mark.parametrize(
    ("role", "action", "allowed"),
    [
        ("Owner", "anything/at/all", True),
        ("Contributor", "Microsoft.Authorization/roleAssignments/write", False),
        ("Contributor", "microsoft.authorization/ROLEASSIGNMENTS/Write", False),
        ("Contributor", "Microsoft.Authorization/roleAssignments/read", True),
        ("Reader", "Microsoft.BatchAI/workspaces/read", True),
        ("Reader", "Microsoft.BatchAI/workspaces/reader/action", False),
        ("Reader", "Microsoft.Storage/storageAccounts/listKeys/action", False),
        ("Job Submitter", "Microsoft.BatchAI/workspaces/clusters/write", False),
        ("Job Submitter", "XMicrosoft.BatchAI/workspaces/read", False),
        ("Nobody", "Microsoft.BatchAI/workspaces/read", False),
    ],
)
def test_patterns_match_whole_actions_in_any_case(role: str, action: str, allowed: bool) -> None:
    assert permits(role, action) is allowed


def test_roles_are_found_by_name_and_id() -> None:
    for role in ROLES.values():
        assert str(uuid.UUID(role.id)) == role.id
        for text in (role.name, role.name.lower().replace(" ", "-"), role.id.upper(), f"/x/roleDefinitions/{role.id}"):
            assert role_named(text) is role
    assert role_named("Own") is None


def _caller(*grants: tuple[str, str], limit: tuple[str, str] | None = None) -> Caller:
    held = tuple(Grant(*grant) for grant in grants)
    return Caller("id", "name", PrincipalKind.USER, held, limit=Grant(*limit) if limit else None)


_GRANTS = st.tuples(st.sampled_from(sorted(ROLES)), _KEYS)
_ACTIONS = st.sampled_from(
    [
        "Microsoft.BatchAI/workspaces/read",
        "Microsoft.BatchAI/workspaces/clusters/write",
        "Microsoft.BatchAI/workspaces/experiments/jobs/write",
        "Microsoft.Authorization/roleAssignments/write",
        "Trainshed.Identity/me/tokens/write",
    ]
)


@given(st.lists(_GRANTS, max_size=3), _GRANTS, _ACTIONS, _KEYS)
def test_a_limited_token_never_allows_more_than_its_owner_or_its_limit(
    grants: list[tuple[str, str]], limit: tuple[str, str], action: str, place: str
) -> None:
    limited = _caller(*grants, limit=limit).may(action, place)
    assert limited <= _caller(*grants).may(action, place)
    assert limited <= (permits(limit[0], action) and holds(limit[1], place))


@given(st.lists(_GRANTS, max_size=3), st.none() | _GRANTS, _ACTIONS, _KEYS, _KEYS)
def test_somewhere_within_means_at_some_scope_within(
    grants: list[tuple[str, str]], limit: tuple[str, str] | None, action: str, place: str, below: str
) -> None:
    caller = _caller(*grants, limit=limit)
    if holds(place, below) and caller.may(action, below):
        assert caller.may_somewhere_in(action, place)
    if not any(caller.may(action, key) for key in [place, *(key for _, key in [*grants, *([limit] if limit else [])])]):
        assert not caller.may_somewhere_in(action, place)


def test_the_administrator_may_everything_everywhere() -> None:
    assert ADMINISTRATOR.may("Any/thing", "/s/g/w")
