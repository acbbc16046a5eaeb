"""What a job may wait for: the conditions of ``dependsOn`` (2026-11-01). Light: the command line uses it too."""

from __future__ import annotations

from enum import StrEnum


class Condition(StrEnum):
    """What must have become of the other job. The names and meanings are those of Slurm's ``--dependency``."""

    AFTER = "after"
    AFTER_OK = "afterOk"
    AFTER_ANY = "afterAny"
