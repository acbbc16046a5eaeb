"""A test double: a cloud whose machines are nodes of Ray on this machine, each with a loopback address.

It is Ray's own fake provider, loaded by Ray's autoscaler as a provider from outside, since Ray's gives all nodes the
machine's one address.
"""

from __future__ import annotations

import json
from typing import Any

import ray._private.node
from ray._private import ray_constants
from ray._private.parameter import RayParams
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)


class LoopbackProvider(FakeMultiNodeProvider):
    """``network`` of the provider's settings is what the nodes' addresses begin with."""

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: dict[str, float], labels: dict[str, str]
    ) -> None:
        resources = dict(resources)
        with self.lock:
            node_id = self._next_hex_node_id()
            kind = tags[TAG_RAY_USER_NODE_TYPE]
            address = f"{self.provider_config['network']}.{100 + self._next_node_id}"
            node = ray._private.node.Node(
                RayParams(
                    node_ip_address=address,
                    min_worker_port=0,
                    max_worker_port=0,
                    dashboard_port=None,
                    dashboard_agent_listen_port=0,
                    num_cpus=resources.pop("CPU", 0),
                    num_gpus=resources.pop("GPU", 0),
                    object_store_memory=80_000_000,
                    resources=resources,
                    labels=labels,
                    gcs_address=self.provider_config["gcs_address"],
                    env_vars={
                        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id,
                        "RAY_CLOUD_INSTANCE_ID": node_id,
                        "RAY_NODE_TYPE_NAME": kind,
                        ray_constants.RESOURCES_ENVIRONMENT_VARIABLE: json.dumps(resources),
                        ray_constants.LABELS_ENVIRONMENT_VARIABLE: json.dumps(labels),
                    },
                ),
                head=False,
                shutdown_at_exit=False,
                spawn_reaper=False,
            )
            self._nodes[node_id] = {
                "tags": {
                    **tags,
                    TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
                    TAG_RAY_USER_NODE_TYPE: kind,
                    TAG_RAY_NODE_NAME: node_id,
                    TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
                },
                "node": node,
            }
