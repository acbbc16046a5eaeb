"""Which Ray nodes a cluster may have."""

from __future__ import annotations

import pytest

from trainshed.engines.ray.claims import RayNode, Wanted, free_nodes, parse_labels, request, shortage


def node(name: str, labels: dict[str, str] | None = None, **resources: float) -> RayNode:
    return RayNode(name, f"127.0.0.{ord(name)}", resources, labels or {})


SMALL, LARGE = node("s", CPU=2), node("l", CPU=16)
GPU = node("g", {"zone": "eu", "kind": "a100"}, CPU=16, GPU=4, train=1)
ALL = [LARGE, GPU, SMALL]


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        (Wanted(1, 0), "slg"),
        (Wanted(4, 0), "lg"),
        (Wanted(4, 1), "g"),
        (Wanted(4, 8), ""),
        (Wanted(1, 0, "train"), "g"),
        (Wanted(1, 0, "test"), ""),
        (Wanted(1, 0, "", {"zone": "eu"}), "g"),
        (Wanted(1, 0, "", {"zone": "eu", "kind": "h100"}), ""),
    ],
)
def test_those_that_fit_the_smallest_first(wanted: Wanted, fitting: str) -> None:
    assert [found.ray_id for found in free_nodes(ALL, (), wanted)] == list(fitting)


def test_an_idle_one_is_taken_before_a_smaller_one_that_others_use() -> None:
    used = RayNode("u", "127.0.0.9", {"CPU": 1}, idle=False)
    assert free_nodes([used, LARGE], (), Wanted(1, 0)) == [LARGE, used]


def test_a_held_node_is_not_free() -> None:
    assert free_nodes(ALL, {"s", "l"}, Wanted(1, 0)) == [GPU]


@pytest.mark.parametrize(
    ("held", "wanted", "count", "words"),
    [
        ((), Wanted(1, 0), 3, []),
        (("s",), Wanted(1, 0), 3, ["3 more", "of the 3 that there are 2 are free", "1 CPUs"]),
        ((), Wanted(64, 0), 1, ["None of the 3", "64 CPUs", "largest has 16"]),
        ((), Wanted(1, 0, "test"), 1, ["None of the 3", "resource test"]),
    ],
)
def test_a_shortage_tells_the_numbers(held: tuple[str, ...], wanted: Wanted, count: int, words: list[str]) -> None:
    told = shortage(ALL, held, wanted, count)
    assert bool(told) == bool(words)
    for word in words:
        assert word in told


def test_the_autoscaler_is_asked_for_one_bundle_a_node() -> None:
    wanted = [Wanted(4, 0), Wanted(8, 2, "train"), Wanted(0, 1, "", {"zone": "eu"})]
    assert request(wanted) == (
        [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0, "train": 1.0}, {"CPU": 1.0, "GPU": 1.0}],
        [{}, {}, {"zone": "eu"}],
    )


def test_labels() -> None:
    assert parse_labels("zone=eu, kind=a=b") == {"zone": "eu", "kind": "a=b"}
    assert parse_labels(None) == {}
    with pytest.raises(ValueError, match="zone"):
        parse_labels("zone")
