"""A workspace's scheduling rules (2026-11-01): fair share, limits and budgets.

Without any, jobs are served by priority and then by age, as the original did, and nobody is limited.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from trainshed.resources.common import MAX_ENTRIES, Model, choice
from trainshed.resources.durations import Duration

#: Half of what somebody used is forgotten after this time.
DEFAULT_HALF_LIFE = "P7D"

LimitScope = Annotated[
    Literal["workspace", "user", "experiment"], BeforeValidator(choice("workspace", "user", "experiment"))
]
LimitMeasure = Annotated[
    Literal["nodes", "runningJobs", "nodeHours", "cost"],
    BeforeValidator(choice("nodes", "runningJobs", "nodeHours", "cost")),
]
Weight = Annotated[float, Field(gt=0, le=1000)]
BUDGETS = frozenset({"nodeHours", "cost"})


class FairShareRules(Model):
    """Within a priority, who used less goes first: node-hours that count half after each half-life."""

    half_life: Duration = Field(default=DEFAULT_HALF_LIFE, description="When usage counts half")
    users: bool = Field(default=True, description="Whether users are told apart")
    experiments: bool = Field(default=True, description="Whether the experiments of one user are told apart")
    #: By user name; 1 for others. With 2 one may use twice as much before going behind.
    weights: Annotated[dict[str, Weight], Field(max_length=MAX_ENTRIES)] | None = Field(
        default=None, description="Larger shares, by user name", examples=[{"ann@example.org": 2}]
    )


class LimitRule(Model):
    """The most that a workspace, a user or an experiment may have at once, or may use altogether."""

    scope: LimitScope = Field(description="For whom it holds", examples=["user"])
    #: The user's or experiment's name; without it the limit holds for each of them by itself.
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    measure: LimitMeasure = Field(description="What is limited", examples=["nodes"])
    amount: Annotated[float, Field(ge=0, le=1e12)] = Field(description="The most", examples=[8])
    #: Of a budget (nodeHours, cost): begins anew after each period. Without it: counted for ever.
    period: Duration | None = None
    #: Of a budget: whether jobs wait when it is spent, or only go behind everyone else's.
    hard: bool = True

    @model_validator(mode="after")
    def _check(self) -> LimitRule:
        if self.scope == "workspace" and self.name is not None:
            raise ValueError("a limit of the workspace has no name: leave name out, or say scope user or experiment")
        if self.measure not in BUDGETS:
            if self.period is not None:
                raise ValueError(f"{self.measure} are counted now, not in a period: leave period out")
            if not self.hard:
                raise ValueError(f"only budgets (nodeHours, cost) may be soft: leave hard out for {self.measure}")
            if self.amount != int(self.amount):
                raise ValueError(f"the amount of {self.measure} is a whole number")
        return self


class SchedulingRules(Model):
    """All rules of a workspace."""

    read_only: ClassVar[frozenset[str]] = frozenset({"standing"})

    fair_share: FairShareRules | None = None
    limits: Annotated[list[LimitRule], Field(max_length=MAX_ENTRIES)] | None = None


class SchedulingRulesCreate(Model):
    """Body of PUT schedulingRules: replaces all rules that were."""

    properties: SchedulingRules = Field(default_factory=SchedulingRules, description="The rules")
