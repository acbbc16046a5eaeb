"""Small pure parts: paths, differences, ETags, warnings."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from trainshed.api.answers import etag, warning
from trainshed.api.differences import differing
from trainshed.api.endpoints import ENDPOINTS
from trainshed.api.paths import canonical
from trainshed.api.ranges import RangeNotSatisfiable, parse_range

_NAMES = st.text("abcXYZ019-_", min_size=1, max_size=8) | st.sampled_from(["Jobs", "CLUSTERS", "providers", "logs"])
_TEMPLATES = st.sampled_from([endpoint.path for endpoint in ENDPOINTS if endpoint.path.startswith("/subscriptions")])


@given(_TEMPLATES, st.data())
def test_canonical_restores_fixed_segments_and_keeps_names(template: str, data: st.DataObject) -> None:
    wanted, given_ = [], []
    for part in template.split("/"):
        if part.startswith("{"):
            # What stands in a type's place is a hash, which no fixed segment looks like.
            name = "0af" if part in ("{sha256}", "{snapshot}") else data.draw(_NAMES)
            wanted.append(name)
            given_.append(name)
        else:
            wanted.append(part)
            # Segments in a name's place (``code/missing``) are new and not subject to the old rule.
            given_.append(
                part
                if part in ("missing", "blobs", "snapshots")
                else data.draw(st.sampled_from([part, part.upper(), part.lower()]))
            )
    assert canonical("/".join(given_)) == "/".join(wanted)


@given(st.text())
def test_other_paths_are_left_alone(text: str) -> None:
    assert canonical(f"/files/{text}") == f"/files/{text}"


@given(st.integers(0, 30), st.integers(0, 30) | st.none(), st.integers(0, 20))
def test_a_range_lies_within_the_file(first: int, last: int | None, size: int) -> None:
    header = f"bytes={first}-{'' if last is None else last}"
    try:
        found = parse_range(header, size)
    except RangeNotSatisfiable:
        assert first >= size
        return
    if found is None:
        assert last is not None and last < first
        return
    start, end = found
    assert start == first
    assert 0 <= start < end <= size
    assert end == (size if last is None else min(last + 1, size))


def test_etag_is_a_time_in_ticks_since_year_one() -> None:
    match = re.fullmatch(r'"0x([0-9A-F]{15})"', etag(1_528_319_162_350))
    assert match is not None
    moment = datetime(1, 1, 1) + timedelta(microseconds=int(match[1], 16) // 10)
    assert moment == datetime(2018, 6, 6, 21, 6, 2, 350_000)


def test_differences_are_the_innermost() -> None:
    stored = {"a": 1, "b": {"c": 1, "d": {"e": 1}}, "f": [1], "cluster": {"id": "/A"}, "gone": 1}
    wanted = {"a": 1, "b": {"c": 2, "d": {"e": 1}}, "f": [2], "cluster": {"id": "/a"}, "new": 1}
    assert differing(stored, wanted) == ["properties.b.c", "properties.f", "properties.gone", "properties.new"]


def test_a_warning_is_one_plain_header_line() -> None:
    header = warning(['a"b\r\nSet-Cookie: x', "größe", *(f"m{number}" for number in range(30))])["Warning"]
    assert header.isascii() and header.isprintable()
    assert header.count('"') == 2
    assert "and 12 more" in header
    assert warning([]) == {}
