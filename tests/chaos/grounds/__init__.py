"""Engines that the chaos test is run on, each with what can be killed there."""

from __future__ import annotations

from tests.chaos.grounds.ground import Ground
from tests.chaos.grounds.local import LocalGround
from tests.chaos.grounds.ray import RayGround
from tests.chaos.grounds.slurm import SlurmGround

GROUNDS: dict[str, type[Ground]] = {"local": LocalGround, "slurm": SlurmGround, "ray": RayGround}
