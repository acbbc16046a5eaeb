"""Experiments: named groups of jobs. Creating one needs nothing but its name."""

from __future__ import annotations

from typing import ClassVar

from trainshed.resources.common import Model


class ExperimentProperties(Model):
    """Nothing can be said about an experiment; one example of the specification sends empty properties."""

    read_only: ClassVar[frozenset[str]] = frozenset(
        {"creationTime", "provisioningState", "provisioningStateTransitionTime"}
    )


class ExperimentCreate(Model):
    """Body of PUT experiment; usually there is none."""

    read_only: ClassVar[frozenset[str]] = frozenset({"id", "name", "type"})

    properties: ExperimentProperties | None = None
