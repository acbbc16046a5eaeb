"""How much of this machine nodes may take: CPUs may be promised more than once, GPUs never."""

from __future__ import annotations

import os
from dataclasses import dataclass

from trainshed.engines.local.gpus import list_gpus

OVERSUBSCRIPTION_VARIABLE = "TRAINSHED_CPU_OVERSUBSCRIPTION"
_OVERSUBSCRIPTION = 8.0


class CapacityError(Exception):
    """This machine cannot hold the nodes; the message says what is short and which setting would help."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to give."""

    cpus: int
    gpus: tuple[str, ...]
    #: The sum of the nodes' cores may be this many times the machine's CPUs.
    oversubscription: float

    @classmethod
    def here(cls) -> Machine:
        """This machine, and the limit that the environment sets."""
        try:
            factor = float(os.environ.get(OVERSUBSCRIPTION_VARIABLE, _OVERSUBSCRIPTION))
        except ValueError:
            factor = _OVERSUBSCRIPTION
        return cls(os.cpu_count() or 1, list_gpus(), max(factor, 0.0))

    def reserve(
        self, count: int, cpus: int, gpus: int, used_cpus: list[int], used_gpus: list[str]
    ) -> list[tuple[str, ...]]:
        """The GPUs of each of ``count`` new nodes of that size. Raises CapacityError; nothing is reserved then."""
        limit = self.cpus * self.oversubscription
        wanted = sum(used_cpus) + count * cpus
        if count and wanted > limit:
            raise CapacityError(
                f"{count} nodes of {cpus} cores make {wanted} cores in all on this machine, more than {limit:g} "
                f"({self.cpus} CPUs x {self.oversubscription:g}). Use a smaller vmSize or fewer nodes, or start the "
                f"service with a higher {OVERSUBSCRIPTION_VARIABLE}."
            )
        free = [gpu for gpu in self.gpus if gpu not in used_gpus]
        if count * gpus > len(free):
            raise CapacityError(
                f"{count} nodes of {gpus} GPUs need {count * gpus} GPUs and this machine has {len(free)} free of "
                f"{len(self.gpus)}. GPUs are never shared: use a vmSize without GPUs, fewer nodes, or free some."
            )
        return [tuple(free[index * gpus : (index + 1) * gpus]) for index in range(count)]
