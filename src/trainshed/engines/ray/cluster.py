"""What is asked of Ray, and nothing else. Only the bridge's process loads Ray."""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.autoscaler.sdk import request_resources
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.ray import agent as agent_module
from trainshed.engines.ray.claims import Death, RayNode

#: An agent of a node: a handle whose methods are those of ``agent.NodeAgent``, with ``remote``.
Agent = Any
#: Numbers of ``NodeDeathInfo.Reason`` (Ray's common.proto): an orderly end (SIGTERM, ``ray stop``), and nodes that the
#: autoscaler was told of as taken back, or that it ended because they were idle.
WANTED_DEATHS = {1: "EXPECTED_TERMINATION", 3: "AUTOSCALER_DRAIN_PREEMPTED", 4: "AUTOSCALER_DRAIN_IDLE"}


class RayCluster:
    """A connection as a driver. The methods block for as long as Ray's head takes to answer."""

    def __init__(self, address: str, namespace: str) -> None:
        """Connect. Raises ConnectionError, RuntimeError and others, as Ray does."""
        ray.init(
            address=address,
            namespace=namespace,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
        ray.cloudpickle.register_pickle_by_value(agent_module)  # type: ignore[no-untyped-call]
        self._kind = ray.remote(agent_module.NodeAgent)

    def nodes(self) -> list[RayNode]:
        """Those that live, and those whose death Ray remembers: up to a thousand, until its head is started anew."""
        free = available_resources_per_node()  # type: ignore[no-untyped-call]
        return [
            RayNode(
                node["NodeID"],
                node["NodeManagerAddress"],
                node["Resources"],
                node.get("Labels") or {},
                idle=free.get(node["NodeID"], {}).get("CPU", 0) >= node["Resources"].get("CPU", 0),
                death=None if node["Alive"] else _death(node),
            )
            for node in ray.nodes()  # type: ignore[no-untyped-call]
        ]

    def hold(self, name: str, node: RayNode, program: str, mark: str, log: str) -> Agent:
        """The agent of that name, made if there is none: on this node, which it takes whole."""
        return self._kind.options(
            name=name,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=node.cpus,
            num_gpus=node.gpus,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.ray_id, soft=False),
        ).remote(program, MARK_VARIABLE, mark, log)

    def find(self, name: str) -> Agent | None:
        """The agent of that name, if there is one."""
        try:
            return ray.get_actor(name)
        except ValueError:
            return None

    def names(self) -> list[str]:
        """Of all agents of this engine, those that wait for a machine included."""
        return list(list_named_actors())

    def end(self, agent: Agent) -> None:
        """End its process; what it holds is free then."""
        ray.kill(agent, no_restart=True)

    def request(self, bundles: list[dict[str, float]], labels: list[dict[str, str]]) -> None:
        """Ask the autoscaler for room for all of these together; holds until it is asked for something else."""
        request_resources(bundles=bundles, bundle_label_selectors=labels if any(labels) else None)


def _death(node: dict[str, Any]) -> Death:
    number = int(node.get("DeathReason") or 0)
    return Death(number in WANTED_DEATHS, str(node.get("DeathReasonMessage") or WANTED_DEATHS.get(number, "")))
