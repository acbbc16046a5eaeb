"""Indices of job arrays, and the jobs that come of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.resources.bodies import job as job_body
from trainshed.resources import parsing
from trainshed.resources.definition import definition
from trainshed.resources.errors import InvalidResource
from trainshed.resources.indices import MAX_JOBS, parse_indices
from trainshed.resources.job_array import check_array_name, indices_of, member_definition


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("7", (7,)),
        ("0-3", (0, 1, 2, 3)),
        ("0-9:3", (0, 3, 6, 9)),
        ("5, 1-2,1", (1, 2, 5)),
        ("0-4,20-24:2", (0, 1, 2, 3, 4, 20, 22, 24)),
        ("999999", (999_999,)),
    ],
)
def test_indices(text: str, indices: tuple[int, ...]) -> None:
    assert parse_indices(text) == indices


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no index"),
        ("a", "'a' is no index and no range"),
        ("1,,2", "is no index"),
        ("-1", "is no index"),
        ("3-1", "goes upwards"),
        ("0-9:0", "goes upwards"),
        ("1:2", "is no index"),
        ("1000000", "is no index"),
        ("٣", "is no index"),
        ("0-1000", f"more than {MAX_JOBS}"),
        ("0-999,2000", f"these are {MAX_JOBS + 1} indices"),
        (",".join(["0-999"] * (MAX_JOBS + 1)), f"more than {MAX_JOBS}"),
    ],
)
def test_what_are_no_indices(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_indices(text)


@given(st.sets(st.integers(0, 999_999), min_size=1, max_size=50))
def test_indices_come_back(indices: set[int]) -> None:
    assert parse_indices(",".join(map(str, indices))) == tuple(sorted(indices))


def array_body(**array: object) -> dict[str, object]:
    body = job_body()
    body["properties"]["array"] = array
    return body


def test_each_job_knows_which_one_it_is() -> None:
    body = array_body(count=3)
    body["properties"]["environmentVariables"] = [{"name": "A", "value": "1"}]  # type: ignore[index]
    whole = definition(parsing.parse_job_array(body))
    assert indices_of(whole) == (0, 1, 2)
    own = member_definition(whole, "sweep", 2, 3)
    assert "array" not in own and "array" in whole
    assert {each["name"]: each["value"] for each in own["environmentVariables"]} == {
        "A": "1",
        "TRAINSHED_ARRAY_INDEX": "2",
        "TRAINSHED_ARRAY_COUNT": "3",
        "TRAINSHED_ARRAY_JOB": "sweep",
    }
    assert len(whole["environmentVariables"]) == 1


@pytest.mark.parametrize(
    ("array", "said"),
    [
        ({}, "needs count or indices"),
        ({"count": 1, "indices": "0"}, "needs count or indices"),
        ({"count": 0}, "from 1 to 1000"),
        ({"count": 1001}, "from 1 to 1000"),
        ({"indices": "x"}, "no index and no range"),
        ({"count": 2, "maxRunning": 0}, "from 1 to 1000"),
    ],
)
def test_what_is_refused(array: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidResource, match=said):
        parsing.parse_job_array(array_body(**array))


@pytest.mark.parametrize("member", ["environmentVariables", "secrets"])
def test_the_arrays_own_variables_are_not_the_users(member: str) -> None:
    body = array_body(count=1)
    body["properties"][member] = [{"name": "TRAINSHED_ARRAY_INDEX", "value": "1"}]  # type: ignore[index]
    with pytest.raises(InvalidResource, match="set by the service"):
        parsing.parse_job_array(body)


def test_the_longest_name_must_be_one() -> None:
    check_array_name("a" * 60, (0, 999))
    with pytest.raises(InvalidResource, match="too long"):
        check_array_name("a" * 61, (0, 999))
