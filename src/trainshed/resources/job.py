"""Jobs: one program on one cluster, with its directories, variables and limits (contract 6, behaviour 5)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from trainshed.resources.cluster import MAX_NODES
from trainshed.resources.common import (
    MAX_ENTRIES,
    CommandLine,
    EnvironmentVariables,
    Model,
    Path,
    ResourceRef,
    SecretVariables,
    choice,
)
from trainshed.resources.dependencies import Dependencies
from trainshed.resources.durations import Duration
from trainshed.resources.images import ImageSourceRegistry
from trainshed.resources.mounts import MountVolumes
from trainshed.resources.preemption_settings import JobPreemption
from trainshed.resources.retries import RetryPolicy
from trainshed.resources.settings import (
    Caffe2Settings,
    CaffeSettings,
    ChainerSettings,
    CntkSettings,
    CustomMpiSettings,
    CustomToolkitSettings,
    HorovodSettings,
    PyTorchSettings,
    TensorFlowSettings,
)
from trainshed.resources.today_settings import (
    AccelerateSettings,
    DeepSpeedSettings,
    JaxSettings,
    LightningSettings,
    RaySettings,
    TorchrunSettings,
)
from trainshed.resources.toolsettings import NEWER_TOOL_TYPES

#: schedulingPriority -> the number that orders the queue (behaviour 5.1).
PRIORITIES: dict[str, int] = {"low": -1000, "normal": 0, "high": 1000}
#: More GPUs than any one node has.
MAX_GPUS_PER_PROCESS = 64
#: How long a job may run when it doesn't say (rest-contract section 6).
DEFAULT_MAX_WALL_CLOCK_TIME = "P7D"

SchedulingPriority = Annotated[Literal["low", "normal", "high"], BeforeValidator(choice(*PRIORITIES))]


class ContainerSettings(Model):
    """The container that a job runs in; without it a job runs on the node itself."""

    image_source_registry: ImageSourceRegistry = Field(description="The image", examples=[{"image": "ubuntu"}])
    shm_size: Annotated[str, Field(max_length=32)] | None = None


class JobPreparation(Model):
    """A command that runs on every node of the job before the toolkit."""

    command_line: CommandLine = Field(description="The command", examples=["pip install -r requirements.txt"])


class InputDirectory(Model):
    """A path that the job finds as ``$AZ_BATCHAI_INPUT_{id}``."""

    id: Annotated[str, Field(max_length=256)] = Field(description="Its id", examples=["DATASET"])
    path: Path = Field(description="The path", examples=["$AZ_BATCHAI_MOUNT_ROOT/data"])


class OutputDirectory(Model):
    """A directory that the service makes and the job finds as ``$AZ_BATCHAI_OUTPUT_{id}``."""

    id: Annotated[str, Field(max_length=256)] = Field(description="Its id", examples=["MODEL"])
    path_prefix: Path = Field(description="Where it is made", examples=["$AZ_BATCHAI_MOUNT_ROOT/outputs"])
    path_suffix: Annotated[str, Field(max_length=4096)] | None = None


class JobConstraints(Model):
    """Limits of a job."""

    max_wall_clock_time: Duration = DEFAULT_MAX_WALL_CLOCK_TIME


class JobProperties(Model):
    """JobBaseProperties of the contract, and what the newer version adds."""

    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "experimentName",
            "toolType",
            "jobOutputDirectoryPathSegment",
            "creationTime",
            "provisioningState",
            "provisioningStateTransitionTime",
            "executionState",
            "executionStateTransitionTime",
            "executionInfo",
            "whyWaiting",
            "attempt",
            "retries",
            "preemptions",
            "requeueReason",
            "unmetDependencies",
            "jobArray",
        }
    )
    since_2026: ClassVar[frozenset[str]] = frozenset(
        {"codeSnapshot", "retryPolicy", "gpusPerProcess", "preemption", "dependsOn", *NEWER_TOOL_TYPES}
    )

    scheduling_priority: SchedulingPriority = "normal"
    cluster: ResourceRef = Field(
        description="The cluster that runs the job",
        examples=[
            {"id": "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.BatchAI/workspaces/{w}/clusters/{c}"}
        ],
    )
    mount_volumes: MountVolumes | None = None
    node_count: Annotated[int, Field(ge=1, le=MAX_NODES)] = Field(
        description="How many nodes the job holds at once", examples=[1]
    )
    container_settings: ContainerSettings | None = None
    cntk_settings: CntkSettings | None = None
    py_torch_settings: PyTorchSettings | None = None
    tensor_flow_settings: TensorFlowSettings | None = None
    caffe_settings: CaffeSettings | None = None
    caffe2_settings: Caffe2Settings | None = None
    chainer_settings: ChainerSettings | None = None
    custom_toolkit_settings: CustomToolkitSettings | None = None
    custom_mpi_settings: CustomMpiSettings | None = None
    horovod_settings: HorovodSettings | None = None
    #: 2026-11-01: today's toolkits.
    torchrun_settings: TorchrunSettings | None = None
    jax_settings: JaxSettings | None = None
    deep_speed_settings: DeepSpeedSettings | None = None
    accelerate_settings: AccelerateSettings | None = None
    lightning_settings: LightningSettings | None = None
    ray_settings: RaySettings | None = None
    job_preparation: JobPreparation | None = None
    std_out_err_path_prefix: Path = Field(
        description="Where standard output, standard error and the execution log are written",
        examples=["$AZ_BATCHAI_MOUNT_ROOT/logs"],
    )
    input_directories: Annotated[list[InputDirectory], Field(max_length=MAX_ENTRIES)] | None = None
    output_directories: Annotated[list[OutputDirectory], Field(max_length=MAX_ENTRIES)] | None = None
    environment_variables: EnvironmentVariables | None = None
    secrets: SecretVariables | None = None
    constraints: JobConstraints = Field(default_factory=JobConstraints)
    #: 2026-11-01: id of the uploaded code that becomes the working directory.
    code_snapshot: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    #: 2026-11-01: how often the job is tried again after a failure of its own.
    retry_policy: RetryPolicy | None = None
    #: 2026-11-01: how it is warned before it is pre-empted; as the defaults say when absent.
    preemption: JobPreemption | None = None
    #: 2026-11-01: how many GPUs of its node each process sees; all of them when absent.
    gpus_per_process: Annotated[int, Field(ge=1, le=MAX_GPUS_PER_PROCESS)] | None = Field(
        default=None, description="How many GPUs of its node each process sees; all when absent", examples=[1]
    )

    #: 2026-11-01: what must have become of other jobs before this one joins the queue.
    depends_on: Dependencies | None = Field(default=None, description="Jobs that it waits for before it is queued")

    @model_validator(mode="after")
    def _fill_counts(self) -> JobProperties:
        """Counts that default to nodeCount, as the service returns them (rest-contract section 6, behaviour 5.1)."""
        for settings in (
            self.cntk_settings,
            self.py_torch_settings,
            self.caffe_settings,
            self.chainer_settings,
            self.custom_mpi_settings,
            self.horovod_settings,
        ):
            if settings is not None and settings.process_count is None:
                settings.process_count = self.node_count
        cntk = self.cntk_settings
        if cntk is not None and cntk.language_type is None:
            cntk.language_type = "Python" if cntk.python_script_file_path else "BrainScript"
        tensorflow = self.tensor_flow_settings
        if tensorflow is not None:
            if tensorflow.worker_count is None:
                tensorflow.worker_count = self.node_count
            if tensorflow.parameter_server_count is None and self.node_count > 1:
                tensorflow.parameter_server_count = 1
        return self


class JobCreate(Model):
    """Body of PUT job."""

    read_only: ClassVar[frozenset[str]] = frozenset({"id", "name", "type"})

    properties: JobProperties = Field(description="What the job is to do")
