"""Quotas: what an administrator writes, and what is left of a limit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.resources import quotas
from trainshed.resources.quotas import (
    CLUSTERS,
    ClusterUse,
    InvalidQuotas,
    Limits,
    Quotas,
    default_limits,
    family_cores,
    read_quotas,
    total_cores,
)
from trainshed.resources.vmsizes import VmSize, find_size, local_sizes

LOCAL = local_sizes(4, 4096, 0)
D = family_cores("D", "dedicated")


def size(name: str) -> VmSize:
    found = find_size(name, LOCAL)
    assert found is not None
    return found


def test_without_a_word_from_the_administrator() -> None:
    limits = Quotas(default_limits(32)).limits("s")
    assert (limits.of(CLUSTERS), limits.of(D), limits.of(family_cores("Local", "dedicated"))) == (20, 600, 32)
    assert Quotas(default_limits(800)).limits("s").of(total_cores("dedicated")) == 800


def test_limits_are_written_by_the_names_of_usages_in_any_case() -> None:
    text = json.dumps(
        {"*": {"clusters": 5, D.upper(): 7}, "SUB": {D: 9, "Total Cluster LowPriority Regional vCPUs": 0}}
    )
    read = read_quotas(text, 4)
    everyone, own = read.limits("other"), read.limits("sub")
    assert (everyone.of(CLUSTERS), everyone.of(D)) == (5, 7)
    assert (own.of(CLUSTERS), own.of(D), own.of(total_cores("lowpriority"))) == (5, 9, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "an object of objects"),
        ('{"*": 3}', "an object of objects"),
        ('{"*": {"Cluster": 3}}', "did you mean 'Clusters'"),
        ('{"*": {"Clusters": -1}}', "0 or more"),
        ('{"s": {"Clusters": true}}', "whole number"),
        ('{"s": {"Clusters": 1.5}}', "whole number"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(InvalidQuotas, match=said):
        read_quotas(text, 4)


def test_the_tightest_limit_is_told() -> None:
    limits = Limits({**default_limits(4), D: 10, total_cores("dedicated"): 12})
    others = [ClusterUse("a", "STANDARD_D2", "dedicated", 2, 3), ClusterUse("b", "STANDARD_F4", "dedicated", 1)]
    excess = limits.cores_excess(others, size("STANDARD_D2"), "dedicated", 2, LOCAL)
    assert excess is not None
    assert (excess.name, excess.limit, excess.in_use, excess.requested, excess.left) == (
        total_cores("dedicated"), 12, 10, 4, 2,
    )  # fmt: skip
    assert limits.cores_excess(others, size("STANDARD_D2"), "dedicated", 1, LOCAL) is None
    assert limits.cores_excess(others, size("STANDARD_D2"), "lowpriority", 9, LOCAL) is None


def test_no_nodes_are_always_allowed() -> None:
    limits = Limits(dict.fromkeys(quotas.names(), 0))
    assert limits.cores_excess((), size("STANDARD_D1"), "dedicated", 0, LOCAL) is None
    assert limits.nodes_allowed((), size("STANDARD_D1"), "dedicated", LOCAL) == 0


@given(
    nodes=st.lists(st.integers(0, 20), max_size=4),
    name=st.sampled_from(["STANDARD_D1", "STANDARD_D3", "STANDARD_F4", "LOCAL", "LOCAL_1CPU"]),
    own=st.integers(0, 60),
    all_cores=st.integers(0, 60),
)
def test_as_many_as_are_allowed_fit_and_one_more_does_not(
    nodes: list[int], name: str, own: int, all_cores: int
) -> None:
    values = dict.fromkeys(quotas.names(), own) | {total_cores("dedicated"): all_cores}
    limits, wanted = Limits(values), size(name)
    others = [ClusterUse(str(index), "STANDARD_D1", "dedicated", count) for index, count in enumerate(nodes)]
    allowed = limits.nodes_allowed(others, wanted, "dedicated", LOCAL)
    assert limits.cores_excess(others, wanted, "dedicated", allowed, LOCAL) is None or allowed == 0
    assert limits.cores_excess(others, wanted, "dedicated", allowed + 1, LOCAL) is not None
