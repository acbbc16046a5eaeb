"""retryPolicy (2026-11-01): when a job that failed by itself is tried again, how often and how soon.

Azure Batch calls the number ``maxTaskRetryCount``, Kubernetes ``backoffLimit``; both try again after any failure.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainshed.resources.common import Model
from trainshed.resources.durations import DurationOrZero

#: Most times that a job is tried again after failures of its own.
MAX_RETRIES = 100

ExitCode = Annotated[int, Field(ge=1, le=255)]


class RetryBackoff(Model):
    """The pause before each further try: the first, how it grows, and where that ends."""

    initial_delay: DurationOrZero = Field(default="PT10S", description="Pause before the first retry")
    multiplier: Annotated[float, Field(ge=1, le=10, examples=[2])] = 2
    max_delay: DurationOrZero = Field(default="PT10M", description="The longest pause")


class RetryPolicy(Model):
    """Failures of the job's own processes, preparation included, after which it is queued again."""

    max_retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] = Field(
        description="How often the job is tried again", examples=[3]
    )
    #: None for every exit code but 0.
    exit_codes: Annotated[list[ExitCode], Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="Exit codes after which it is tried again; every one but 0 when absent"
    )
    backoff: RetryBackoff = Field(default_factory=RetryBackoff)
