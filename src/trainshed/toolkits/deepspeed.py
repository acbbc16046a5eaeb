"""DeepSpeed: a process per rank with today's variables, which ``deepspeed.init_distributed`` reads.

Neither ``deepspeed --hostfile`` nor SSH is involved. DS_ACCELERATOR is left to the user: DeepSpeed finds GPUs itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan
from trainshed.toolkits.per_rank import plan_ranks


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """A process for each GPU, or processCount. Raises PlanError without a script, or with too few processes."""
    return plan_ranks("deepSpeedSettings", settings, gang)
