"""Hugging Face Accelerate: a process per rank with today's variables.

``accelerate launch --cpu`` on several machines silently runs a job of its own on each, so it is never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan
from trainshed.toolkits.per_rank import plan_ranks


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """A process for each GPU, or processCount. Raises PlanError without a script, or with too few processes."""
    on_cpu = not any(host.gpus for host in gang.hosts)
    return plan_ranks("accelerateSettings", settings, gang, {"ACCELERATE_USE_CPU": "true"} if on_cpu else {})
