"""A team on one service, by the command line: users, tokens, roles, what each may do, and the log of it all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.issuer import LoopbackIssuer
from tests.support.live_service import LiveService
from tests.support.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_team_shares_a_service(service: LiveService, tmp_path: Path) -> None:
    admin = Program(service.home, tmp_path)
    admin.ok("workspace", "create", "vision")
    admin.ok("workspace", "create", "speech")
    assert admin.ok("whoami").out.startswith("administrator (User")

    made = admin.ok("user", "create", "ann", "--display-name", "Ann")
    assert "ann" in made.out
    assert admin.ok("role", "assign", "ann", "job submitter", "-w", "vision", "-o", "json").json["properties"][
        "roleName"
    ] == "Job Submitter"  # fmt: skip
    # Again is the same.
    admin.ok("role", "assign", "ann", "Job Submitter", "-w", "vision")
    shown = admin.ok("token", "create", "--user", "ann", "--name", "laptop", "--expires", "7")
    token = shown.out.strip()
    assert token.startswith("tsp_") and "not shown again" in shown.err

    ann = Program(service.home, tmp_path, {"TRAINSHED_URL": service.url, "TRAINSHED_TOKEN": token})
    assert "Job Submitter of" in ann.ok("whoami").out
    assert ann.ok("workspace", "list", "-o", "quiet").out == "vision\n"
    ann.ok("experiment", "create", "-w", "vision", "e1")
    refused = ann("experiment", "list", "-w", "speech")
    assert refused.code == 1
    assert "AuthorizationFailed" in refused.err and "experiments/read" in refused.err
    assert ann("user", "list").code == 1
    assert ann("cluster", "create", "-w", "vision", "-n", "c", "-s", "local", "-t", "0").code == 1

    log = admin.ok("audit", "--user", "ann", "-o", "json").json
    assert [(entry["action"].rpartition("workspaces/")[2], entry["outcome"]) for entry in log] == [
        ("experiments/write", "accepted"),
        ("clusters/write", "refused"),
    ]
    assert "refused" in admin.ok("audit", "--since", "1h", "--outcome", "refused").out
    assert admin.ok("audit", "--scope", "/subscriptions/none", "-o", "json").json == []

    listed = admin.ok("token", "list", "--user", "ann", "-o", "json").json
    assert [entry["properties"]["displayName"] for entry in listed] == ["laptop"]
    admin.ok("token", "revoke", listed[0]["name"], "--user", "ann")
    gone = ann("whoami")
    assert gone.code == 1 and "revoked" in gone.err

    assert "Reader" in admin.ok("role", "list").out
    assert "ann" in admin.ok("role", "assignments").out
    assert "no longer" in admin.ok("role", "remove", "ann", "Job Submitter", "-w", "vision").err
    assert "is not" in admin.ok("role", "remove", "ann", "Job Submitter", "-w", "vision").err
    admin.ok("user", "lock", "ann")
    assert admin.ok("user", "show", "ann", "-o", "json").json["properties"]["disabled"] is True
    admin.ok("user", "unlock", "ann")
    admin.ok("user", "delete", "ann", "-y")
    assert "no user" in admin.ok("user", "delete", "ann", "-y").err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("role", "assign", "nobody", "Reader", "--everywhere"), "PrincipalNotFound"),
        (("role", "assign", "nobody", "King", "--everywhere"), "RoleDefinitionDoesNotExist"),
        (("role", "assign", "nobody", "Reader"), "say where"),
        (("role", "assign", "nobody", "Reader", "--everywhere", "--scope", "/"), "say where"),
        (("token", "create", "--name", "x"), "AdministratorHasNoTokens"),
        (("token", "create", "--name", "x", "--expires", "400"), "1<=x<=366"),
        (("user", "show", "nobody"), "PrincipalNotFound"),
        (("audit", "--since", "yesterday"), "is no time"),
    ],
)
def test_mistakes_are_told_with_the_way_out(trainshed: Program, arguments: tuple[str, ...], told: str) -> None:
    done = trainshed(*arguments)
    assert done.code in (1, 2, 3)
    assert told in done.err


def test_people_of_an_openid_provider_sign_in(tmp_path: Path) -> None:
    import time

    with LoopbackIssuer() as issuer:
        live = LiveService(tmp_path / "home", "--oidc-issuer", issuer.url, "--oidc-audience", "trainshed")
        try:
            live.start()
            token = issuer.token(time.time())
            ann = Program(live.home, tmp_path, {"TRAINSHED_URL": live.url, "TRAINSHED_TOKEN": token})
            assert "ann@example.org" in ann.ok("whoami").out
            assert ann("workspace", "list").code == 1
            admin = Program(live.home, tmp_path)
            admin.ok("role", "assign", "ann@example.org", "Contributor", "--everywhere")
            ann.ok("workspace", "create", "w")
            expired = issuer.token(time.time(), exp=int(time.time()) - 100)
            late = Program(live.home, tmp_path, {"TRAINSHED_URL": live.url, "TRAINSHED_TOKEN": expired})
            assert "expired" in late("whoami").err
        finally:
            live.stop()
