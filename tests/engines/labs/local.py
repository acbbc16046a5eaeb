"""The local engine: with namespaces, without, and with jobs of another user."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.engines.conftest import run_in_lab
from tests.engines.deaths import a_job_whose_namespaces_are_ended_by_others_is_lost
from tests.engines.labs.kind import Body, LabKind
from trainshed.engines.local.job_users import hindrance
from trainshed.resources.users import JobUser, UserRange


def _run(isolation: str, body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("monkeypatch").setenv("TRAINSHED_ISOLATION", isolation)
    run_in_lab(home, body)


def _run_as_stranger(body: Body, home: Path, request: pytest.FixtureRequest) -> None:
    users = UserRange(1900001000, 1900001009)
    if why := hindrance(users):
        pytest.skip(f"jobs cannot have a user of their own here: {why}")
    user: JobUser = users.user(1)
    run_in_lab(home, body, user)


KINDS = (
    LabKind("local", partial(_run, "")),
    LabKind(
        "local-without-namespaces",
        partial(_run, "none"),
        exempt={a_job_whose_namespaces_are_ended_by_others_is_lost.__name__: "jobs have none of their own"},
    ),
    LabKind("local-strangers", _run_as_stranger),
)
