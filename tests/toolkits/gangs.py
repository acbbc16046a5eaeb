"""Gangs for tests: named hosts with the addresses that the original's nodes had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainshed.toolkits import Gang, Host


def gang(nodes: int = 2, **changes: Any) -> Gang:
    """A gang of so many nodes of 4 CPUs, without MPI unless given."""
    hosts = tuple(Host(name=f"node-{n}", address=f"10.0.0.{4 + n}", cpus=4) for n in range(nodes))
    made = Gang(
        hosts=hosts,
        shared_job_temp="/jobs/shared",
        attempt_id="attempt-1",
        launch_agent="/agent",
        rank_wrapper="/rank.sh",
    )
    return replace(made, **changes)
