"""The settings of the nine toolkits (rest-contract section 6, behaviour 8). Today's are in ``today_settings``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources.common import CommandLine, Model, Path, choice

#: Most processes that a job may ask for, over all its nodes.
MAX_PROCESSES = 10_000

ProcessCount = Annotated[int, Field(ge=1, le=MAX_PROCESSES, examples=[2])]
LanguageType = Annotated[Literal["BrainScript", "Python"], BeforeValidator(choice("BrainScript", "Python"))]
MasterRole = Annotated[Literal["Worker", "Chief"], BeforeValidator(choice("Worker", "Chief"))]


class PythonScript(Model):
    """A Python program: the part that most toolkits share."""

    python_script_file_path: Path = Field(
        description="The Python script to run", examples=["$AZ_BATCHAI_INPUT_SCRIPTS/train.py"]
    )
    python_interpreter_path: Path | None = None


class CntkSettings(Model):
    """CNTK: a BrainScript configuration or a Python script, under MPI."""

    language_type: LanguageType | None = None
    config_file_path: Path | None = None
    python_script_file_path: Path | None = None
    python_interpreter_path: Path | None = None
    command_line_args: CommandLine | None = None
    process_count: ProcessCount | None = None


class PyTorchSettings(PythonScript):
    """PyTorch: a process per rank started by the service, or MPI. The backend is returned as it was written."""

    command_line_args: CommandLine | None = None
    process_count: ProcessCount | None = None
    communication_backend: Annotated[str, Field(max_length=16)] | None = None


class TensorFlowSettings(PythonScript):
    """TensorFlow: a master (worker 0), workers and parameter servers running the same script."""

    since_2026: ClassVar[frozenset[str]] = frozenset({"masterRole"})

    master_command_line_args: CommandLine | None = None
    worker_command_line_args: CommandLine | None = None
    parameter_server_command_line_args: CommandLine | None = None
    worker_count: ProcessCount | None = None
    parameter_server_count: Annotated[int, Field(ge=0, le=MAX_PROCESSES, examples=[1])] | None = None
    #: 2026-11-01: what TF_CONFIG calls the master. As chief the job ends with it, as ParameterServerStrategy wants.
    master_role: MasterRole | None = None


class CaffeSettings(Model):
    """Caffe: a solver file or a Python script."""

    config_file_path: Path | None = None
    python_script_file_path: Path | None = None
    python_interpreter_path: Path | None = None
    command_line_args: CommandLine | None = None
    process_count: ProcessCount | None = None


class Caffe2Settings(PythonScript):
    """Caffe2: the script once per node."""

    command_line_args: CommandLine | None = None


class ChainerSettings(PythonScript):
    """Chainer: the script under MPI."""

    command_line_args: CommandLine | None = None
    process_count: ProcessCount | None = None


class HorovodSettings(PythonScript):
    """Horovod: the script under MPI."""

    command_line_args: CommandLine | None = None
    process_count: ProcessCount | None = None


class CustomToolkitSettings(Model):
    """A command line on the first node."""

    command_line: CommandLine | None = Field(
        default=None, description="The command, run on the first node", examples=["python train.py"]
    )


class CustomMpiSettings(Model):
    """A command line that MPI runs once per rank."""

    command_line: CommandLine = Field(
        description="The command that MPI starts once per rank", examples=["python train.py"]
    )
    process_count: ProcessCount | None = None
