"""Whatever is sent, the answer is a model or InvalidResource, and can be written as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.resources.bodies import cluster, file_server, job
from trainshed.resources.definition import definition
from trainshed.resources.errors import InvalidResource
from trainshed.resources.parsing import parse_cluster, parse_file_server, parse_job

pytestmark = pytest.mark.slow

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SHARE = {"azureFileShares": [{"credentials": {"accountKey": "k"}}]}
BASES: list[tuple[Any, dict[str, Any]]] = [
    (
        parse_job,
        job(mountVolumes=SHARE, secrets=[{"name": "A", "value": "x"}], constraints={"maxWallClockTime": "P1D"}),
    ),
    (parse_cluster, cluster(nodeSetup={"setupTask": {"secrets": [{"name": "A"}]}, "mountVolumes": SHARE})),
    (parse_file_server, file_server()),
]


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, below in inner for found in _places(below, (*place, key)))]


def _replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[place[0]] = _replaced(value[place[0]], place[1:], new)
    return copied


@pytest.mark.parametrize(("parse", "base"), BASES)
@pytest.mark.parametrize("version", ["2018-05-01", "2026-11-01"])
@given(data=st.data())
def test_anything_anywhere(parse: Any, base: dict[str, Any], version: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(_places(base)))
    body = _replaced(base, place, data.draw(VALUES))
    try:
        parsed = parse(json.dumps(body).encode(), version)
    except InvalidResource as error:
        json.dumps(error.to_json(), ensure_ascii=False).encode()
        assert error.message and error.code
    else:
        json.dumps(definition(parsed.model), ensure_ascii=False).encode()
