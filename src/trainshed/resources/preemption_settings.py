"""preemption (2026-11-01): on a job the warning that it wants, on a cluster whether its jobs are pre-empted at all."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources.common import Model, choice
from trainshed.resources.durations import GracePeriod
from trainshed.resources.preemption import (
    DEFAULT_GRACE_PERIOD,
    DEFAULT_MAX_GRACE_PERIOD,
    DEFAULT_SIGNAL,
    WARNING_SIGNALS,
)

WarningSignal = Annotated[Literal["SIGUSR2", "SIGUSR1", "SIGTERM", "SIGINT"], BeforeValidator(choice(*WARNING_SIGNALS))]


class JobPreemption(Model):
    """How a job that has to give up its nodes is warned."""

    signal: WarningSignal = Field(default=DEFAULT_SIGNAL, description="The signal that its ranks get")
    grace_period: GracePeriod = Field(
        default=DEFAULT_GRACE_PERIOD, description="How long it has from then on to SIGTERM"
    )


class ClusterPreemption(Model):
    """Whether jobs take nodes from jobs of lower priority."""

    enabled: bool = Field(default=False, description="Whether they do")
    max_grace_period: GracePeriod = Field(
        default=DEFAULT_MAX_GRACE_PERIOD, description="The longest gracePeriod that jobs get here"
    )
