"""Clusters: nodes of one size and image, how many, and how they are set up (rest-contract section 6, behaviour 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources.common import (
    CommandLine,
    EnvironmentVariables,
    KeyVaultSecretReference,
    Model,
    Path,
    ResourceRef,
    SecretField,
    SecretVariables,
    Text,
    VmSizeName,
    choice,
)
from trainshed.resources.durations import DurationOrZero
from trainshed.resources.engines import DEFAULT_ENGINE
from trainshed.resources.images import ImageSourceRegistry
from trainshed.resources.mounts import MountVolumes
from trainshed.resources.preemption_settings import ClusterPreemption

#: Most nodes of a cluster (behaviour 2).
MAX_NODES = 100
#: Most images that a node fetches ahead.
MAX_IMAGES = 32
#: How long an auto-scaled node stays without work. The original took nodes away about six minutes after the last job
#: (rest-contract section 7); its rule was never published.
DEFAULT_IDLE_TIME = "PT5M"

VmPriority = Annotated[Literal["dedicated", "lowpriority"], BeforeValidator(choice("dedicated", "lowpriority"))]
NodeDeallocationOption = Annotated[
    Literal["requeue", "terminate", "waitforjobcompletion"],
    BeforeValidator(choice("requeue", "terminate", "waitforjobcompletion")),
]
Nodes = Annotated[int, Field(ge=0, le=MAX_NODES)]


class ManualScaleSettings(Model):
    """A number of nodes, and what happens to running jobs when it goes down."""

    target_node_count: Nodes = Field(description="How many nodes the cluster is to have", examples=[2])
    node_deallocation_option: NodeDeallocationOption = "requeue"


class AutoScaleSettings(Model):
    """Bounds between which the service follows the queue. ``initial`` counts at creation only."""

    since_2026: ClassVar[frozenset[str]] = frozenset({"idleTimeBeforeScaleDown"})

    minimum_node_count: Nodes = Field(description="The fewest nodes", examples=[0])
    maximum_node_count: Nodes = Field(description="The most nodes", examples=[4])
    initial_node_count: Nodes = 0
    #: 2026-11-01: how long a node stays without work before it goes.
    idle_time_before_scale_down: DurationOrZero = DEFAULT_IDLE_TIME


class ScaleSettings(Model):
    """Exactly one of the two kinds."""

    manual: ManualScaleSettings | None = None
    auto_scale: AutoScaleSettings | None = None


class ImageReference(Model):
    """An operating system image."""

    publisher: Text = Field(description="Publisher of the image", examples=["Canonical"])
    offer: Text = Field(description="Offer of the image", examples=["UbuntuServer"])
    sku: Text = Field(description="SKU of the image", examples=["16.04-LTS"])
    version: str = "latest"
    virtual_machine_image_id: Path | None = None


class VirtualMachineConfiguration(Model):
    """What the nodes start from."""

    image_reference: ImageReference | None = None


def default_image() -> VirtualMachineConfiguration:
    """What the service fills in when no image is given."""
    image = ImageReference(publisher="Canonical", offer="UbuntuServer", sku="16.04-LTS", version="latest")
    return VirtualMachineConfiguration(image_reference=image)


class UserAccountSettings(Model):
    """The administrator's account on each node: a name, and a password or an SSH public key."""

    admin_user_name: str = Field(description="Name of the account", min_length=1, max_length=64, examples=["trainer"])
    admin_user_ssh_public_key: Annotated[str, Field(min_length=1, max_length=16_384)] | None = None
    admin_user_password: SecretField = Field(default=None, description="Password of the account; never returned")


class SetupTask(Model):
    """A command that prepares each node when it is allocated and after each reboot, as root."""

    read_only: ClassVar[frozenset[str]] = frozenset({"stdOutErrPathSuffix"})

    command_line: CommandLine = Field(description="The command", examples=["apt-get install -y libgomp1"])
    environment_variables: EnvironmentVariables | None = None
    secrets: SecretVariables | None = None
    std_out_err_path_prefix: Path = Field(
        description="Where its logs are written", examples=["$AZ_BATCHAI_MOUNT_ROOT/logs"]
    )


class AppInsightsReference(Model):
    """An Application Insights component with its key or a reference to it."""

    component: ResourceRef = Field(description="The component")
    instrumentation_key: SecretField = Field(default=None, description="Instrumentation key; never returned")
    instrumentation_key_secret_reference: KeyVaultSecretReference | None = None


class PerformanceCountersSettings(Model):
    """Where the nodes' performance counters are sent."""

    app_insights_reference: AppInsightsReference = Field(description="The component that receives the counters")


class NodeSetup(Model):
    """What is done to each node before it takes jobs."""

    since_2026: ClassVar[frozenset[str]] = frozenset({"containerImages"})

    setup_task: SetupTask | None = None
    mount_volumes: MountVolumes | None = None
    performance_counters_settings: PerformanceCountersSettings | None = None
    #: 2026-11-01: images of containers that each node fetches ahead of its first job.
    container_images: Annotated[list[ImageSourceRegistry], Field(max_length=MAX_IMAGES)] | None = None


class ClusterEngine(Model):
    """Where the nodes come from: an engine of the service, and the engine's own settings of the cluster."""

    name: str = Field(description="An engine of the service", min_length=1, max_length=32, examples=["hpc"])
    options: Annotated[dict[str, str], Field(max_length=32)] = Field(
        default_factory=dict, description="Its own settings of this cluster", examples=[{"partition": "gpu"}]
    )
    node_limit: Annotated[Literal["job", "cluster"] | None, BeforeValidator(choice("job", "cluster"))] = Field(
        default=None,
        description="What the scale settings limit where the engine queues by itself. job (the default): the nodes of "
        "each job. cluster: those of all its jobs together, of which the others wait here",
    )


CLUSTER_READ_ONLY = frozenset(
    {
        "creationTime",
        "provisioningState",
        "provisioningStateTransitionTime",
        "allocationState",
        "allocationStateTransitionTime",
        "errors",
        "currentNodeCount",
        "nodeStateCounts",
        "nodeReasons",
    }
)


class ClusterProperties(Model):
    """ClusterBaseProperties of the contract, and what the newer version adds."""

    read_only: ClassVar[frozenset[str]] = CLUSTER_READ_ONLY
    since_2026: ClassVar[frozenset[str]] = frozenset({"backfill", "preemption", "engine"})

    vm_size: VmSizeName = Field(description="Size of every node", examples=["STANDARD_D2"])
    vm_priority: VmPriority = "dedicated"
    scale_settings: ScaleSettings = Field(
        description="Exactly one of manual and autoScale", examples=[{"manual": {"targetNodeCount": 1}}]
    )
    virtual_machine_configuration: VirtualMachineConfiguration = Field(default_factory=default_image)
    user_account_settings: UserAccountSettings = Field(
        description="Administrator's account",
        examples=[{"adminUserName": "trainer", "adminUserSshPublicKey": "ssh-..."}],
    )
    node_setup: NodeSetup | None = None
    subnet: ResourceRef | None = None
    #: 2026-11-01: whether jobs that cannot delay the first one that waits for nodes may start before it;
    #: absent: yes.
    backfill: bool | None = None
    #: 2026-11-01: whether its jobs take nodes from one another; they do not when absent.
    preemption: ClusterPreemption | None = None
    #: 2026-11-01: absent: the service's own machine.
    engine: ClusterEngine | None = None


def vm_priority(definition: Mapping[str, Any]) -> str:
    """``dedicated`` or ``lowpriority``, from a cluster's stored properties."""
    return str(definition.get("vmPriority", "dedicated"))


def engine_of(definition: Mapping[str, Any]) -> str:
    """The engine's name, from a cluster's stored properties."""
    return str((definition.get("engine") or {}).get("name", DEFAULT_ENGINE))


def limits_jobs_together(definition: Mapping[str, Any]) -> bool:
    """Whether scale settings limit all jobs together on an engine that queues, from a cluster's stored properties."""
    return (definition.get("engine") or {}).get("nodeLimit") == "cluster"


def engine_options(definition: Mapping[str, Any]) -> dict[str, str]:
    """The engine's own settings of the cluster, from its stored properties."""
    return dict((definition.get("engine") or {}).get("options") or {})


class ClusterCreate(Model):
    """Body of PUT cluster."""

    read_only: ClassVar[frozenset[str]] = frozenset({"id", "name", "type"})

    properties: ClusterProperties = Field(description="What the cluster is to be")


class ClusterUpdateProperties(Model):
    """Only the scale of a cluster can be changed; the other properties of a cluster sent back are ignored."""

    read_only: ClassVar[frozenset[str]] = CLUSTER_READ_ONLY

    scale_settings: ScaleSettings | None = None


class ClusterUpdate(Model):
    """Body of PATCH cluster. Without scaleSettings nothing changes."""

    read_only: ClassVar[frozenset[str]] = frozenset({"id", "name", "type"})

    properties: ClusterUpdateProperties | None = None
