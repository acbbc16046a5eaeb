"""Versions, tokens and errors of slurmrestd, with a double of a later one; and the site as it is seen through it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.engines.slurm.rest.double import Dropped, Slurmrestd, value
from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.commands import Refused, Unsure
from trainshed.engines.slurm.owners import Owner
from trainshed.engines.slurm.rest.site import RestSite
from trainshed.engines.slurm.rest.token import NoToken, Token
from trainshed.engines.slurm.settings import SlurmSettings
from trainshed.engines.slurm.site import site_of

pytestmark = pytest.mark.slow

T = TypeVar("T")
ANN = Owner("ann", 2001, 2001, "/home/ann")


def seen(server: Slurmrestd, tmp_path: Path, ask: Callable[[RestSite], Awaitable[T]], **more: str) -> T:
    """What is asked through a connection of its own."""
    token = tmp_path / "token"
    if not token.exists():
        token.write_text(f"SLURM_JWT={server.token}\n")
        token.chmod(0o600)
    given = {"directory": "/shared", "rest_url": server.url, "rest_user": "svc", "token_file": str(token), **more}

    async def whole() -> T:
        site = site_of(SlurmSettings.parse(given), {"PATH": "/bin", "SLURM_JWT": "secret", "TRAINSHED_URL": "x"})
        assert isinstance(site, RestSite)
        try:
            return await ask(site)
        finally:
            await site.close()

    return asyncio.run(whole())


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("v0.0.39", "v0.0.40", "v0.0.41"), "v0.0.41"),
        (("v0.0.38",), "v0.0.38"),
        (("v0.0.44", "v0.0.99"), "v0.0.44"),
    ],
)
def test_the_newest_version_that_both_know_is_taken(offered: tuple[str, ...], chosen: str, tmp_path: Path) -> None:
    async def ask(site: RestSite) -> str:
        await site.nodes()
        return site.place

    with Slurmrestd(versions=offered) as server:
        assert seen(server, tmp_path, ask) == f"slurmrestd at {server.url}, {chosen} of {', '.join(offered)}"
        assert {path.split("/")[2] for _, path, _, _ in server.got[1:]} == {chosen}


@pytest.mark.parametrize("offered", [("v0.0.37",), ("v0.0.99",), ()])
def test_without_one_it_says_which_there_are(offered: tuple[str, ...], tmp_path: Path) -> None:
    with Slurmrestd(versions=offered) as server, pytest.raises(EngineUnavailable) as error:
        seen(server, tmp_path, lambda site: site.nodes())
    said = error.value.reason.text
    assert f"it has versions {', '.join(offered) or 'none'}, and this service knows v0.0.38 to v0.0.45" in said


def test_one_that_was_exchanged_is_asked_anew(tmp_path: Path) -> None:
    async def ask(site: RestSite) -> str:
        await site.nodes()
        server.versions = ("v0.0.42",)
        await site.nodes()
        return site.place

    with Slurmrestd() as server:
        assert "v0.0.42 of v0.0.42" in seen(server, tmp_path, ask)


def test_a_site_of_a_later_version(tmp_path: Path) -> None:
    """The whole of what is asked of a site."""
    job = {"job_id": 5, "job_state": ["RUNNING"], "comment": "c", "restart_cnt": 0, "start_time": value(7)}

    async def ask(site: RestSite) -> None:
        assert await site.version() == "slurm 24.05.1"
        (node,) = await site.nodes()
        assert (node.name, node.partition, node.state, node.minutes) == ("n1", "gpu*", "idle", 60)
        lines = await site.queue([ANN])
        assert [(line.job, line.uid) for line in lines] == [("5", 12), ("6", 2001)]
        assert await site.submit(["--parsable", "--job-name=x", "--nodes=1"], "#!/bin/sh\n", ANN) == "4711"
        await site.cancel(["5"])
        assert await site.ended(["9"]) == {"9": "TIMEOUT"}
        assert await site.associations() == {("ml", "ann"), ("ml", "")}

    with Slurmrestd(accounting=True) as server:
        for number, name, uid in ((5, "svc", 12), (6, "ann", 2001), (7, "stranger", 2002)):
            server.jobs.append({**job, "job_id": number, "user_name": name, "user_id": uid})
        seen(server, tmp_path, ask)
        submission = next(call for call in server.got if call[0] == "POST")
        assert submission[1:3] == ("/slurm/v0.0.41/job/submit", "ann")
        sent = submission[3]["job"]
        assert sent["script"] == "#!/bin/sh\n"
        # As its own user; and nothing that proves who the service is.
        assert set(sent["environment"]) == {"PATH=/bin", "HOME=/home/ann", "USER=ann", "LOGNAME=ann"}
        assert ("DELETE", "/slurm/v0.0.41/job/5", "svc", None) in server.got
        assert all(user == "svc" for _, path, user, _ in server.got if "submit" not in path)


def test_without_accounting_nobody_knows(tmp_path: Path) -> None:
    with Slurmrestd() as server:
        assert seen(server, tmp_path, lambda site: site.ended(["9"])) == {}
        with pytest.raises(Refused, match="no accounting"):
            seen(server, tmp_path, lambda site: site.associations())


REFUSED = {"errors": [{"error_number": 2000, "error": "Invalid partition name specified", "source": "x"}]}
AWAY = {"errors": [{"error_number": 1800, "error": "Unable to contact slurm controller (connect failure)"}]}
UNCLEAR = {"errors": [{"error_number": -1, "error": "Unspecified error"}]}
NOT_NOW = {"job_id": 12, "errors": [{"error_number": 2068, "error": "Required node not available"}]}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, REFUSED, Refused),
        (200, REFUSED, Refused),
        (400, UNCLEAR, Refused),
        (500, AWAY, EngineUnavailable),
        (500, UNCLEAR, EngineUnavailable),
        (502, "gateway", EngineUnavailable),
    ],
)
def test_a_refusal_is_told_from_a_controller_that_is_away(
    status: int, body: object, expected: type[Exception], tmp_path: Path
) -> None:
    with Slurmrestd() as server, pytest.raises(expected) as error:
        server.answers["POST", "job/submit"] = (status, body)
        seen(server, tmp_path, lambda site: site.submit(["--nodes=1"], "x"))
    assert not isinstance(error.value, Unsure)


def test_a_job_that_is_taken_and_cannot_start_yet_is_taken(tmp_path: Path) -> None:
    with Slurmrestd() as server:
        server.answers["POST", "job/submit"] = (200, NOT_NOW)
        assert seen(server, tmp_path, lambda site: site.submit(["--nodes=1"], "x")) == "12"


def test_cancelling_what_has_ended_is_no_error(tmp_path: Path) -> None:
    gone = {"errors": [{"error_number": 2017, "error": "Invalid job id specified"}]}
    with Slurmrestd() as server:
        server.answers["DELETE", "job/5"] = (500, gone)
        seen(server, tmp_path, lambda site: site.cancel(["5", "6"]))
        assert len([call for call in server.got if call[0] == "DELETE"]) == 2
        server.answers["DELETE", "job/5"] = (500, AWAY)
        with pytest.raises(EngineUnavailable):
            seen(server, tmp_path, lambda site: site.cancel(["5", "6"]))


class Silent(Slurmrestd):
    """A double that takes a submission and drops the connection."""

    def answer(self, method: str, path: str, user: str, token: str, body: Any) -> tuple[int, Any]:
        if method == "POST":
            raise Dropped
        return super().answer(method, path, user, token, body)


def test_a_submission_without_an_answer_is_unsure(tmp_path: Path) -> None:
    with Silent() as server, pytest.raises(Unsure):
        seen(server, tmp_path, lambda site: site.submit(["--nodes=1"], "x"))


def test_a_token_that_is_refused_is_renewed_once(tmp_path: Path) -> None:
    tool = tmp_path / "give"
    tool.write_text(f'#!/bin/sh\necho x >> {tmp_path}/given\necho "$(cat {tmp_path}/now)"\n')
    tool.chmod(0o755)
    (tmp_path / "now").write_text("a.b.old")

    async def ask(site: RestSite) -> None:
        with pytest.raises(EngineUnavailable, match=r"the token is refused .*\(scontrol token\)"):
            await site.nodes()
        assert (tmp_path / "given").read_text().split() == ["x", "x"]
        (tmp_path / "now").write_text("a.b.c")
        await site.nodes()
        assert await site.submit(["--nodes=1"], "x") == "4711"
        assert (tmp_path / "given").read_text().split() == ["x", "x", "x"]

    with Slurmrestd() as server:
        seen(server, tmp_path, ask, token_file="", token_command=str(tool))


def test_a_token_that_names_nobody_needs_a_user(tmp_path: Path) -> None:
    with Slurmrestd() as server, pytest.raises(EngineUnavailable, match="set the engine's 'rest_user'"):
        seen(server, tmp_path, lambda site: site.nodes(), rest_user="")


def jwt(**claims: object) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims))
    return ".".join([*parts, "signature"])


def test_a_token_says_whose_it_is_and_when_it_ends(tmp_path: Path) -> None:
    now = time.time()
    first, second = jwt(sun="svc", iat=now - 90, exp=now + 10), jwt(sun="svc", iat=now, exp=now + 1000)
    tool = tmp_path / "give"
    tool.write_text(f"#!/bin/sh\necho x >> {tmp_path}/given\ncat {tmp_path}/now\n")
    tool.chmod(0o755)
    (tmp_path / "now").write_text(f"SLURM_JWT={first}")

    async def whole() -> None:
        token = Token("", str(tool), 30.0, {"PATH": "/usr/bin:/bin"})
        assert await token.get() == (first, "svc")
        (tmp_path / "now").write_text(second)
        # Of 100 seconds 10 are left: that is late.
        assert [await token.get() for _ in range(3)] == [(second, "svc")] * 3
        assert (tmp_path / "given").read_text().split() == ["x", "x"]

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("file", "command", "said"),
    [
        ("/no/such", "", "the token file /no/such cannot be read"),
        ("", "/no/such x", "the token_command /no/such cannot be started"),
        ("", "sh -c 'echo no key >&2; exit 3'", "ended with 3: no key"),
        ("", "echo something else", "holds no JWT"),
        ("", "sleep 1000", "did not answer within 0.2 s"),
    ],
)
def test_where_no_token_comes_from_is_said(file: str, command: str, said: str) -> None:
    with pytest.raises(NoToken, match=said):
        asyncio.run(Token(file, command, 0.2, {"PATH": "/usr/bin:/bin"}).get())
