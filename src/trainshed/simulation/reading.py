"""Which format a trace has, and its reader."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from enum import StrEnum

from trainshed.simulation.helios import read_helios
from trainshed.simulation.philly import read_philly
from trainshed.simulation.swf import read_swf
from trainshed.simulation.table import read_table
from trainshed.simulation.trace import Trace

#: A line of the Standard Workload Format, be it whole or not.
_NUMBERS = re.compile(r"-?[\d.]+(\s+-?[\d.]+)+", re.ASCII)


class TraceFormat(StrEnum):
    """The formats that can be read."""

    CSV = "csv"
    SWF = "swf"
    PHILLY = "philly"
    HELIOS = "helios"


def read_trace(lines: Iterable[str], form: TraceFormat | None = None, *, per_node: int | None = None) -> Trace:
    """Read a trace; None for the format that its first line looks like. ``per_node``: processors or GPUs of a node.

    Raises TraceError.
    """
    lines = iter(lines)
    if form is None:
        begun = list(itertools.islice(lines, 1))
        while begun and not begun[-1].strip():
            begun += itertools.islice(lines, 1) or ("",)
            if len(begun) > 100:
                break
        form = recognised(begun[-1] if begun else "")
        lines = itertools.chain(begun, lines)
    if form is TraceFormat.SWF:
        return read_swf(lines, per_node=per_node)
    if form is TraceFormat.PHILLY:
        return read_philly(lines, per_node=per_node or 1)
    if form is TraceFormat.HELIOS:
        return read_helios(lines, per_node=per_node or 1)
    return read_table(lines)


def recognised(line: str) -> TraceFormat:
    """The format of a trace with this line at its beginning."""
    text = line.strip().lstrip("\ufeff")
    if text.startswith(("[", "{")):
        return TraceFormat.PHILLY
    if text.startswith(";") or _NUMBERS.fullmatch(text):
        return TraceFormat.SWF
    return TraceFormat.HELIOS if "gpu_num" in text.split(",") else TraceFormat.CSV
