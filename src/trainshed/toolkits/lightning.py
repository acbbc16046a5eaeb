"""Lightning: a process per rank with today's variables; LOCAL_RANK tells the Trainer not to start ranks itself.

Lightning counts ranks as node x devices, so every node has as many processes, and the script says the same numbers:
``Trainer(num_nodes=..., devices=int(os.environ["LOCAL_WORLD_SIZE"]))``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.toolkits.launch import Gang, LaunchPlan
from trainshed.toolkits.per_rank import plan_ranks


def plan(settings: Mapping[str, Any], gang: Gang) -> LaunchPlan:
    """A process for each GPU, or processCount. Raises PlanError without a script, or with uneven nodes."""
    return plan_ranks("lightningSettings", settings, gang)
