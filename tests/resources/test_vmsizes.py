"""The catalogue of VM sizes, local sizes and usages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.resources import names
from trainshed.resources.quotas import ClusterUse, Limits, default_limits
from trainshed.resources.usage import usage_rows
from trainshed.resources.vmsizes import AZURE_SIZES, find_size, local_sizes, supported_sizes


@pytest.mark.parametrize(
    ("name", "cores", "gpus", "family"),
    [
        ("Standard_D1", 1, 0, "D"),
        ("STANDARD_D14_V2", 16, 0, "Dv2"),
        ("Standard_NC6", 6, 1, "NC"),
        ("Standard_NC24r", 24, 4, "NC"),
        ("Standard_NC12s_v2", 12, 2, "NCv2"),
        ("Standard_NC24rs_v3", 24, 4, "NCv3"),
        ("Standard_ND6s", 6, 1, "ND"),
        ("Standard_NV12", 12, 2, "NV"),
        ("Standard_F16", 16, 0, "F"),
    ],
)
def test_azure_sizes(name: str, cores: int, gpus: int, family: str) -> None:
    size = find_size(name)
    assert size is not None
    assert (size.cores, size.gpus, size.family) == (cores, gpus, family)


def test_unknown_sizes() -> None:
    assert find_size("Standard_Z1") is None


def test_names_are_upper_case_and_follow_the_rule_for_names() -> None:
    everything = {**AZURE_SIZES, **local_sizes(8, 32_000, 4)}
    assert all(key == size.name == key.upper() and names.is_name(key) for key, size in everything.items())


def test_premium_sizes_are_for_file_servers_only() -> None:
    clusters = {size.name for size in supported_sizes()}
    servers = {size.name for size in supported_sizes(for_clusters=False)}
    assert "STANDARD_DS1_V2" in servers - clusters
    assert "STANDARD_A0" not in clusters


def test_sizes_of_a_machine() -> None:
    sizes = local_sizes(6, 6000, 2)
    assert list(sizes) == ["LOCAL", "LOCAL_HALF", "LOCAL_1CPU", "LOCAL_2CPU", "LOCAL_4CPU", "LOCAL_1GPU", "LOCAL_2GPU"]
    assert (sizes["LOCAL"].cores, sizes["LOCAL"].memory_mib, sizes["LOCAL"].gpus) == (6, 6000, 2)
    assert (sizes["LOCAL_HALF"].cores, sizes["LOCAL_HALF"].memory_mib, sizes["LOCAL_HALF"].gpus) == (3, 3000, 1)
    assert (sizes["LOCAL_2CPU"].memory_mib, sizes["LOCAL_2CPU"].gpus) == (2000, 0)
    assert (sizes["LOCAL_1GPU"].cores, sizes["LOCAL_1GPU"].gpus) == (3, 1)


@given(st.integers(1, 512), st.integers(1, 10**7), st.integers(0, 16))
def test_no_local_size_exceeds_the_machine(cpus: int, memory: int, gpus: int) -> None:
    for size in local_sizes(cpus, memory, gpus).values():
        assert 1 <= size.cores <= cpus
        assert 1 <= size.memory_mib <= memory
        assert 0 <= size.gpus <= gpus


def test_a_machine_has_something() -> None:
    with pytest.raises(ValueError, match="at least one CPU"):
        local_sizes(0, 1, 0)


def test_usages_in_the_contracts_order() -> None:
    clusters = [
        ClusterUse("a", "STANDARD_NC6", "dedicated", 2, promised=9),
        ClusterUse("b", "STANDARD_D1", "lowpriority", 3),
        ClusterUse("c", "LOCAL", "dedicated", 1),
    ]
    limits = Limits({**default_limits(32), "Total Cluster LowPriority Regional vCPUs": 150})
    rows = usage_rows(clusters, limits, local_sizes(4, 1000, 0))
    assert len(rows) == 17
    assert rows[0] == {
        "unit": "Count",
        "currentValue": 3,
        "limit": 20,
        "name": {"value": "Clusters", "localizedValue": "Clusters"},
    }
    used = {row["name"]["value"]: row["currentValue"] for row in rows if row["currentValue"]}
    assert used == {
        "Clusters": 3,
        "Total Cluster Dedicated Regional vCPUs": 16,
        "Standard NC Family Cluster Dedicated vCPUs": 12,
        "Total Cluster LowPriority Regional vCPUs": 3,
        "Standard D Family Cluster LowPriority vCPUs": 3,
    }
    assert rows[9]["name"]["localizedValue"] == "Total Cluster Low Priority Regional vCPUs"
    assert rows[9]["limit"] == 150
    own = usage_rows(clusters, limits, local_sizes(4, 1000, 0), own_sizes=True)[17:]
    assert [(row["name"]["value"], row["currentValue"], row["limit"]) for row in own] == [
        ("Standard Local Family Cluster Dedicated vCPUs", 4, 32),
        ("Standard Local Family Cluster LowPriority vCPUs", 0, 32),
    ]
