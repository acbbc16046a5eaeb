"""The administrator's file that says who jobs are to Slurm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trainshed.engines.kind import Making
from trainshed.engines.slurm.kind import KIND
from trainshed.engines.slurm.mapping import UserMap, Whom
from trainshed.engines.slurm.settings import ClusterOptions, InvalidSettings
from trainshed.engines.slurm.users import read_map
from trainshed.resources.engines import InvalidEngines

MAP = """
rules:
  - {user: ann@example.org, workspace: vision, account: vision, qos: high, unix_user: ann}
  - {user: "*@example.org", workspace: "*/*/secret", account: secret}
  - {user: "*@example.org", account: 4711, unix_user: "{name}"}
  - {workspace: labs/public, account: guests}
"""


@pytest.mark.parametrize(
    ("user", "group", "workspace", "expected"),
    [
        ("ann@example.org", "g", "vision", Whom("vision", "high", "ann")),
        ("Ann@Example.org", "g", "VISION", Whom("vision", "high", "ann")),
        ("ann@example.org", "g", "speech", Whom("4711", "", "ann", True)),
        ("bob@example.org", "g", "vision", Whom("4711", "", "bob", True)),
        ("bob@example.org", "g", "secret", Whom("secret")),
        ("eve@elsewhere.org", "labs", "public", Whom("guests")),
        ("", "labs", "public", Whom("guests")),
        ("eve@elsewhere.org", "g", "public", None),
        ("", "g", "vision", None),
    ],
)
def test_the_first_rule_that_fits_counts(user: str, group: str, workspace: str, expected: Whom | None) -> None:
    assert UserMap.parse(MAP).find(user, "sub", group, workspace) == expected


def test_who_fits_no_rule_is_refused_or_somebody_by_default() -> None:
    rule = {"user": "ann", "account": "vision"}
    refusing = UserMap.parse(json.dumps({"rules": [rule], "default": "refuse"}))
    assert refusing.find("bob", "s", "g", "w") is None
    giving = UserMap.parse(json.dumps({"rules": [rule], "default": {"account": "guests"}}))
    assert giving.find("bob", "s", "g", "w") == Whom("guests")
    assert giving.find("ann", "s", "g", "w") == Whom("vision")


@pytest.mark.parametrize("name", ["$(id)", "a b", "-x", "../x", ""])
def test_a_name_that_is_none_of_unix_is_no_user(name: str) -> None:
    rules = UserMap.parse('rules: [{unix_user: "{name}"}]')
    with pytest.raises(InvalidSettings, match="no name of a Unix user"):
        rules.find(name, "s", "g", "w")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "it is not YAML"),
        ("[]", "must have 'rules'"),
        ("rules: []", "it has no rule"),
        ("rules: [{user: a, account: b}]\nelse: x", "must have 'rules', perhaps 'default', and nothing else"),
        (
            "rules: [{user: a, account: b}, {users: a}]",
            r"rules\[1\] has 'users', which is not known; there are user, w",
        ),
        ("rules: [{user: a}]", r"rules\[0\] leads to nothing"),
        ("rules: [x]", r"rules\[0\] must be an object"),
        ("rules: [{user: a, account: ''}]", r"rules\[0\].account must be a text, and not empty"),
        ("rules: [{user: [a], account: b}]", r"rules\[0\].user must be a text"),
        ("rules: [{account: 'a b'}]", r"rules\[0\].account cannot be 'a b'"),
        ("rules: [{account: '--uid=0'}]", r"rules\[0\].account cannot be '--uid=0'"),
        ("rules: [{unix_user: root}]", r"rules\[0\].unix_user cannot be root"),
        ("rules: [{unix_user: 'x{name}'}]", r"rules\[0\].unix_user must be the name"),
        ("rules: [{unix_user: '0'}]", r"rules\[0\].unix_user must be the name"),
        ("rules: [{account: a}]\ndefault: {user: x, account: b}", "default is for everybody"),
        ("rules: [{account: a}]\ndefault: allow", "default must be an object .* or it is 'refuse'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        UserMap.parse(text)


def test_a_map_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.yaml"
    path.write_text("rules: [{account: a}]")
    path.chmod(0o664)
    with pytest.raises(InvalidSettings, match=f"others may write it; mend it: .* chmod go-w {path}"):
        read_map(str(path))
    path.chmod(0o644)
    assert read_map(str(path)).targets == (Whom("a"),)


def test_the_map_s_account_goes_before_the_cluster_s() -> None:
    options = ClusterOptions.parse({"account": "cluster", "qos": "low", "partition": "gpu"})
    charged = options.charged_to("own", "")
    assert dict(charged.sbatch) == {"account": "own", "qos": "low", "partition": "gpu"}
    assert charged.exclusive is options.exclusive


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: .*No such file"),
        ("rules: [{users: a}]", r"is not right: rules\[0\] has 'users'"),
        ("rules: [{unix_user: no-such-user-here}]", "'no-such-user-here'"),
    ],
)
def test_an_engine_with_a_map_that_cannot_be_is_not_added(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "users.yaml"
    if text is not None:
        path.write_text(text)
        path.chmod(0o600)
    making = Making("hpc", tmp_path, {"directory": str(tmp_path), "map": str(path)}, None)
    assert KIND.admit is not None
    with pytest.raises(InvalidEngines, match=said):
        KIND.admit(making)


def test_only_root_runs_jobs_as_others_and_anybody_charges_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users.yaml"
    path.write_text("rules: [{unix_user: games}]")
    path.chmod(0o600)
    making = Making("hpc", tmp_path, {"directory": str(tmp_path), "map": str(path)}, None)
    assert KIND.admit is not None
    uid = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid or 1000)
    with pytest.raises(InvalidEngines, match="only where the service runs as root"):
        KIND.admit(making)
    path.write_text("rules: [{account: vision}]")
    KIND.admit(making)


def test_the_example_is_right() -> None:
    rules = UserMap.parse(Path("examples/slurm/users.yaml").read_text())
    assert rules.find("ann@example.org", "s", "g", "vision") == Whom("vision", "high", "ann")
    assert rules.find("bob@example.org", "s", "g", "vision") == Whom("staff", "", "bob", True)
    assert rules.find("eve@elsewhere.org", "s", "g", "vision") is None
