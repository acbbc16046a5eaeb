"""The engines that the conformance suite is run against, each in a laboratory of its own.

A further engine has a module here with a ``LabKind``, and its line in ``kinds``.
"""

from __future__ import annotations

from tests.engines.labs import local, ray, slurm
from tests.engines.labs.kind import LabKind


def kinds() -> tuple[LabKind, ...]:
    """All of them."""
    return (*local.KINDS, *slurm.KINDS, *ray.KINDS)
