"""What ``trainshed doctor`` says of an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str
    #: What mends it; empty when nothing has to be, or nothing can.
    mend: str = ""
    #: False: jobs run without it, but less well.
    needed: bool = True
