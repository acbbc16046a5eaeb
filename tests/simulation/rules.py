"""Scheduling rules of the workspace: what administrators make of them, and what they mean, in the tests' own words."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from tests.simulation.snapshot import Job
from tests.support.factories import WORKSPACE_KEY
from trainshed.resources import parsing
from trainshed.resources.times import duration_seconds
from trainshed.store import workspaces

#: Users by the ids that their jobs have; nobody, too, submits jobs.
USERS: Mapping[str, str] = {"id-of-ann": "ann", "id-of-bob": "bob"}
SUBMITTERS = (None, *USERS)
BUDGET = "nodeHours"

Rules = Mapping[str, Any]


class Administrator:
    """Who sets the rules; a part of ``user.User``."""

    def set_rules(self) -> None:
        """PUT of the scheduling rules."""
        self._set(_some_rules(self._roll))

    def lift_budgets(self) -> None:
        """At the end: what was spent holds nobody back any more. Other limits stay."""

        def lifted(tx: Connection) -> Rules:
            rules = dict(workspaces.get(tx, WORKSPACE_KEY).scheduling)
            rules["limits"] = [limit for limit in rules.get("limits", ()) if limit["measure"] != BUDGET]
            return rules

        self._write(lambda tx: self._store(tx, lifted(tx)))

    def _set(self, wanted: Rules) -> None:
        self._write(lambda tx: self._store(tx, wanted))

    def _store(self, tx: Connection, wanted: Rules) -> None:
        rules = parsing.parse_scheduling_rules(json.dumps({"properties": wanted}).encode())
        workspaces.set_scheduling(tx, WORKSPACE_KEY, rules, self._settings.clock())
        self._story.tell("user: rules", rules)


def _some_rules(roll: random.Random) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    if roll.random() < 0.5:
        rules["fairShare"] = {"halfLife": roll.choice(("PT5S", "PT1M", "P7D")), "weights": {"ann": 2}}
        rules["fairShare"]["experiments"] = roll.random() < 0.5
    rules["limits"] = [_some_limit(roll) for _ in range(roll.choice((0, 1, 2, 3)))]
    return rules


def _some_limit(roll: random.Random) -> dict[str, Any]:
    scope, measure = roll.choice(("workspace", "user", "user", "experiment")), roll.choice(_MEASURES)
    limit: dict[str, Any] = {"scope": scope, "measure": measure, "amount": roll.choice((1, 1, 2, 3))}
    if measure == BUDGET:
        limit["amount"] = roll.choice((0.5, 2, 10)) / 3600
        limit["hard"] = roll.random() < 0.7
        if roll.random() < 0.5:
            limit["period"] = roll.choice(("PT5S", "PT20S"))
    if scope != "workspace" and roll.random() < 0.3:
        limit["name"] = roll.choice(tuple(USERS.values())) if scope == "user" else roll.choice(("exp", "EXP2"))
    return limit


_MEASURES = ("nodes", "nodes", "runningJobs", "runningJobs", BUDGET)


def of_measure(rules: Rules, *measures: str) -> list[dict[str, Any]]:
    """The hard limits of these measures."""
    return [limit for limit in rules.get("limits", ()) if limit["measure"] in measures and limit.get("hard", True)]


def subject(limit: Mapping[str, Any], user: str | None, experiment_key: str) -> str | None:
    """Whom a limit is reckoned for when this user has a job in this experiment; None when it does not hold for them."""
    if limit["scope"] == "workspace":
        return "workspace"
    own = USERS.get(user or "", "") if limit["scope"] == "user" else experiment_key.rpartition("/")[2]
    named = limit.get("name")
    return own if named is None or named.lower() == own.lower() else None


def subject_of(limit: Mapping[str, Any], job: Job) -> str | None:
    """The same for a job."""
    return subject(limit, job.submitted_by, job.experiment_key)


def in_use(limit: Mapping[str, Any], whose: str, holders: Iterable[Job]) -> int:
    """Nodes or jobs that count against the limit."""
    theirs = [job for job in holders if subject_of(limit, job) == whose]
    return len(theirs) if limit["measure"] == "runningJobs" else sum(job.node_count for job in theirs)


def period_start(limit: Mapping[str, Any], now: int) -> int:
    """When the present period of a budget began, Unix ms: the workspace was made at 1."""
    if "period" not in limit:
        return 0
    length = round(1000 * duration_seconds(limit["period"]))
    return now - (now - 1) % length


def never(rules: Rules, job: Job) -> Iterator[Mapping[str, Any]]:
    """Limits that keep the job from ever starting, whatever else ends."""
    for limit in of_measure(rules, "nodes", "runningJobs"):
        need = 1 if limit["measure"] == "runningJobs" else job.node_count
        if subject_of(limit, job) is not None and need > limit["amount"]:
            yield limit
