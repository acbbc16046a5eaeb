"""The indices of a job array as people write them: ``0-9,20-30:2``. Light: the command line uses it too."""

from __future__ import annotations

import re
from itertools import chain

#: Most jobs of one array, and the largest index.
MAX_JOBS = 1_000
MAX_INDEX = 999_999
RULE = "indices and ranges with commas between them, for example 0-9,20-30:2 (every second one from 20 to 30)"

_PART = re.compile(r"(?P<first>\d{1,6})(?:-(?P<last>\d{1,6})(?::(?P<step>\d{1,6}))?)?", re.ASCII)


def parse_indices(text: str) -> tuple[int, ...]:
    """The indices in ascending order, each once. Raises ValueError, which says what is wrong."""
    ranges: list[range] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"'{part.strip()[:40]}' is no index and no range: write {RULE}")
        start = int(match["first"])
        last, step = int(match["last"] or start), int(match["step"] or 1)
        if step == 0 or last < start:
            raise ValueError(f"'{part.strip()}' has no indices: a range goes upwards, by steps of 1 or more")
        ranges.append(range(start, last + 1, step))
        if len(ranges) > MAX_JOBS or len(ranges[-1]) > MAX_JOBS:
            raise ValueError(f"these are more than {MAX_JOBS} indices, the most that an array has")
    found = sorted(set(chain(*ranges)))
    if len(found) > MAX_JOBS:
        raise ValueError(f"these are {len(found)} indices; an array has {MAX_JOBS} at most")
    return tuple(found)
