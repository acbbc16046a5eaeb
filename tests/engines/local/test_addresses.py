"""Addresses and names of nodes."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest

from trainshed.engines.local.addresses import RUNNER_PORT, Subnets, file_server_address, free_addresses, host_name


def test_a_subnet_is_loopback_and_held() -> None:
    subnets, others = Subnets(), Subnets()
    mine = subnets.claim()
    try:
        assert ipaddress.ip_address(f"{mine}.4").is_loopback
        # Another service wants the very same one and gets another.
        theirs = others.claim(mine)
        others.release(theirs)
        assert theirs != mine
    finally:
        subnets.release(mine)
    again = others.claim(mine)
    others.release(again)
    assert again == mine


def test_no_subnet_is_given_twice() -> None:
    subnets = Subnets()
    given = [subnets.claim() for _ in range(20)]
    for subnet in given:
        subnets.release(subnet)
    assert len(set(given)) == 20


def test_the_first_node_has_4_as_in_the_original() -> None:
    assert free_addresses("127.40.1", 3, {"127.40.1.5"}) == ["127.40.1.4", "127.40.1.6", "127.40.1.7"]


def test_a_full_subnet_says_so() -> None:
    everything = set(free_addresses("127.40.1", 250, set()))
    assert all(4 <= int(address.rpartition(".")[2]) <= 253 for address in everything)
    with pytest.raises(OSError, match=r"1 of 127\.40\.1\.0/24 are free"):
        free_addresses("127.40.1", 2, everything - {"127.40.1.9"})


@pytest.mark.parametrize(
    ("cluster", "name"),
    [("gpus", "gpus-1"), ("My_Cluster.2", "my-cluster-2-1"), ("___", "node-1"), ("x" * 64, "x" * 50 + "-1")],
)
def test_host_names_are_valid_labels(cluster: str, name: str) -> None:
    assert host_name(cluster, 0) == name


def test_runners_listen_where_the_kernel_gives_no_port_away() -> None:
    """A job that listens on any port of every address must not take the runners' port on all nodes."""
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if lowest < 32768:
        pytest.skip("this machine's range of ephemeral ports is not the kernel's default")
    assert not lowest <= RUNNER_PORT <= highest
    with socket.socket() as listener:
        listener.bind(("127.40.1.4", RUNNER_PORT))


def test_file_servers_have_addresses_of_their_own_beyond_the_clusters() -> None:
    used: set[str] = set()
    for number in range(50):
        address = file_server_address(f"uid-{number}", used)
        assert ipaddress.ip_address(address) in ipaddress.ip_network("127.224.0.0/12")
        assert address not in used
        assert file_server_address(f"uid-{number}", used) == address
        used.add(address)


def test_a_taken_address_is_passed_over() -> None:
    first = file_server_address("uid", ())
    second = file_server_address("uid", {first})
    assert second != first
    assert file_server_address("uid", {first, second}) not in {first, second}
