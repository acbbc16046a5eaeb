"""What one seed means: how long, how many, which faults and how often; and the dice of each part."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

#: Faults that may hit any single message, call or write: the probability while they are on.
SINGLE = (
    "message lost",
    "message doubled",
    "message late",
    "call fails before",
    "call fails after",
    "start refused",
    "allocation refused",
    "setup fails",
    "wall clock ignored",
    "job kills its node",
    "leaves when warned",
    "write fails",
    "write repeated",
    "answer of write lost",
    "killed before a write",
    "killed after a write",
)
#: Faults that come by themselves: how often a second while they are on.
RECURRING = (
    "node reboots",
    "node vanishes",
    "node breaks",
    "node is mended",
    "engine away",
    "engine restarts",
    "service killed",
    "service restarted",
)


def dice(seed: int, part: str) -> random.Random:
    """The dice of one part: what another part does with its own changes nothing here."""
    return random.Random(f"{seed} {part}")


@dataclass
class Profile:
    """The size and the faults of one run. Times in virtual seconds."""

    #: How long faults and users go on.
    length: float
    #: ``ControlSettings.slow_clock_seconds``
    slow_clock: float
    #: The longest delay of a message, call or write.
    latency: float
    clusters: int
    jobs: int
    #: Limit of dedicated cores of family D.
    cores: int
    #: How many nodes the engine can provide.
    capacity: int
    #: The longest time that a node takes to prepare.
    preparing: float
    #: The longest time that a job's attempt runs.
    running: float
    #: Whether users know dependencies, arrays and scheduling rules.
    together: bool = False
    #: Whether the engine queues by itself (``site.Site``).
    queues: bool = False
    faults: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int) -> Profile:
        """Some seeds are calm, most have about half of all faults (each run reaches deeper with fewer kinds)."""
        roll = dice(seed, "profile")
        faults: dict[str, float] = {}
        if roll.random() > 0.1:
            for name in SINGLE:
                if roll.random() < 0.4:
                    faults[name] = roll.choice((0.02, 0.1, 0.3))
            if "leaves when warned" in faults:
                faults["leaves when warned"] = 0.7  # Few are warned at all.
            for name in ("killed before a write", "killed after a write"):
                if name in faults:
                    faults[name] /= 5
            for name in RECURRING:
                if roll.random() < 0.4:
                    faults[name] = roll.choice((0.02, 0.05, 0.15))
        return cls(
            length=roll.uniform(8, 30),
            slow_clock=roll.choice((5.0, 15.0, 40.0)),
            latency=roll.choice((0.01, 0.1, 1.0)),
            clusters=roll.choice((1, 1, 1, 2, 2, 3)),
            jobs=roll.randint(2, 8),
            cores=roll.choice((4, 8, 16, 600)),
            capacity=roll.choice((3, 6, 12, 100)),
            preparing=roll.choice((0.5, 3.0, 10.0)),
            running=roll.choice((0.5, 4.0, 12.0)),
            together=roll.random() < 0.5,
            queues=dice(seed, "engine").random() < 0.2,
            faults=faults,
        )
