"""From the words of a command line to the contract's properties."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import click
import pytest

from trainshed.cli.commands.cluster_create import add_idle_time, image_reference, scale_settings
from trainshed.cli.errors import CommandError
from trainshed.cli.naming import friendly_name
from trainshed.cli.submission import Submission, Toolkit, command_line
from trainshed.cli.times import ago, duration, iso_duration, size


@pytest.mark.parametrize(
    "words",
    [
        ["printf", "%s|", "a b", "c'd", 'e"f', "$HOME", "$(id)", "*", ""],
        ["bash", "-c", 'for i in 1 2; do echo "$i"; done'],
    ],
)
def test_words_arrive_as_they_were_given(words: Sequence[str]) -> None:
    straight = subprocess.run(words, capture_output=True, check=True).stdout
    through_bash = subprocess.run(["bash", "-c", command_line(words)], capture_output=True, check=True).stdout
    assert through_bash == straight


@pytest.mark.parametrize("variable", ["$AZ_BATCHAI_OUTPUT_X", "${AZ_BATCHAI_OUTPUT_X}"])
def test_the_services_own_variables_are_replaced_on_the_node(variable: str) -> None:
    line = command_line(["printf", "%s", f"--to={variable}/m $HOME"])
    environment = {"AZ_BATCHAI_OUTPUT_X": "/out put", "PATH": "/usr/bin:/bin", "HOME": "/h"}
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True, env=environment)
    assert done.stdout == b"--to=/out put/m $HOME"


def test_one_word_is_a_line_of_bash() -> None:
    assert command_line(["python a.py && python b.py"]) == "python a.py && python b.py"


def test_a_plain_command() -> None:
    assert Submission(["python", "train.py"]).properties("ID", "snap") == {
        "cluster": {"id": "ID"},
        "nodeCount": 1,
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/logs",
        "outputDirectories": [{"id": "OUTPUT", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/outputs"}],
        "customToolkitSettings": {"commandLine": "python train.py"},
        "codeSnapshot": "snap",
    }


def test_everything_that_options_say() -> None:
    said = Submission(
        ["x"],
        nodes=2,
        toolkit=Toolkit.MPI,
        processes=4,
        environment={"A": "1"},
        secrets={"S": "s"},
        outputs=["MODEL"],
        time_limit="PT60S",
        priority="high",
        prepare="pip install x",
        retries=3,
        dependencies=[{"job": "prepare", "condition": "after"}],
    ).properties("ID", None)
    assert said["customMpiSettings"] == {"commandLine": "x", "processCount": 4}
    assert said["environmentVariables"] == [{"name": "A", "value": "1"}]
    assert said["secrets"] == [{"name": "S", "value": "s"}]
    assert said["outputDirectories"][0]["pathSuffix"] == "MODEL"
    assert said["constraints"] == {"maxWallClockTime": "PT60S"}
    assert said["schedulingPriority"] == "high"
    assert said["retryPolicy"] == {"maxRetries": 3}
    assert said["dependsOn"] == [{"job": "prepare", "condition": "after"}]
    assert said["jobPreparation"] == {"commandLine": "pip install x"}
    assert "codeSnapshot" not in said


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["train.py"], {"pythonScriptFilePath": "train.py"}),
        (["python", "train.py", "--lr", "0.1"], {"pythonScriptFilePath": "train.py", "commandLineArgs": "--lr 0.1"}),
        (["python train.py -x 'a b'"], {"pythonScriptFilePath": "train.py", "commandLineArgs": "-x 'a b'"}),
        (
            ["/opt/bin/python3.12", "t.py"],
            {"pythonScriptFilePath": "t.py", "pythonInterpreterPath": "/opt/bin/python3.12"},
        ),
    ],
)
def test_pytorch_takes_a_script(words: Sequence[str], settings: dict[str, str]) -> None:
    made = Submission(words, toolkit=Toolkit.PYTORCH).properties("ID", None)["pyTorchSettings"]
    assert made == {**settings, "communicationBackend": "gloo"}


@pytest.mark.parametrize("words", [["python"], ["python", "-m", "train"]])
def test_pytorch_without_a_script_is_refused(words: Sequence[str]) -> None:
    with pytest.raises(CommandError, match="names none"):
        Submission(words, toolkit=Toolkit.PYTORCH).properties("ID", None)


@pytest.mark.parametrize(
    ("toolkit", "member"),
    [
        (Toolkit.TORCHRUN, "torchrunSettings"),
        (Toolkit.JAX, "jaxSettings"),
        (Toolkit.DEEPSPEED, "deepSpeedSettings"),
        (Toolkit.ACCELERATE, "accelerateSettings"),
        (Toolkit.LIGHTNING, "lightningSettings"),
        (Toolkit.RAY, "raySettings"),
    ],
)
def test_todays_toolkits_take_a_script(toolkit: Toolkit, member: str) -> None:
    words = ["python", "train.py", "-x", "a b"]
    script = {"pythonScriptFilePath": "train.py", "commandLineArgs": "-x 'a b'"}
    assert Submission(words, toolkit=toolkit).properties("ID", None)[member] == script
    with pytest.raises(CommandError, match=f"--toolkit {toolkit} starts a Python script"):
        Submission(["python"], toolkit=toolkit).properties("ID", None)
    if toolkit is not Toolkit.RAY:
        counted = Submission(words, toolkit=toolkit, processes=4).properties("ID", None)[member]
        assert counted == {**script, "processCount": 4}


@pytest.mark.parametrize("toolkit", [Toolkit.CUSTOM, Toolkit.RAY])
def test_several_processes_need_a_toolkit(toolkit: Toolkit) -> None:
    with pytest.raises(CommandError, match=f"--processes needs a toolkit that starts several: {toolkit}"):
        Submission(["x"], toolkit=toolkit, processes=2).properties("ID", None)


def test_friendly_names_are_names_of_the_contract() -> None:
    import re

    names = {friendly_name() for _ in range(200)}
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-[1-9]\d\d", name) for name in names)
    assert len(names) > 150


@pytest.mark.parametrize(
    ("target", "minimum", "maximum", "settings"),
    [
        (None, None, None, None),
        (0, None, None, {"manual": {"targetNodeCount": 0}}),
        (2, None, None, {"manual": {"targetNodeCount": 2}}),
        (None, 2, 2, {"manual": {"targetNodeCount": 2}}),
        (2, 2, 2, {"manual": {"targetNodeCount": 2}}),
        (None, 0, 4, {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 4}}),
        (1, 0, 4, {"autoScale": {"minimumNodeCount": 0, "maximumNodeCount": 4, "initialNodeCount": 1}}),
    ],
)
def test_scale_is_chosen_as_the_original_did(
    target: int | None, minimum: int | None, maximum: int | None, settings: object
) -> None:
    assert scale_settings(target, minimum, maximum) == settings


@pytest.mark.parametrize(("text", "iso"), [("0", "PT0S"), ("90s", "PT90S"), ("0m", "PT0S"), ("P1D", "P1D")])
def test_idle_time_goes_with_a_scale_of_its_own(text: str, iso: str) -> None:
    scale = scale_settings(None, 0, 4)
    assert scale is not None
    add_idle_time(scale, text)
    assert scale["autoScale"]["idleTimeBeforeScaleDown"] == iso
    with pytest.raises(click.UsageError, match="--min and --max"):
        add_idle_time({"manual": {"targetNodeCount": 2}}, text)


@pytest.mark.parametrize(("image", "offer"), [("UbuntuLTS", "UbuntuServer"), ("a:b:c:1.0", "b")])
def test_images_by_alias_or_in_full(image: str, offer: str) -> None:
    assert image_reference(image, None)["offer"] == offer


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("90s", "PT90S"),
        ("2h", "PT7200S"),
        ("1h30m", "PT5400S"),
        ("1d", "PT86400S"),
        ("pt2h", "PT2H"),
        ("0.5h", "PT1800S"),
    ],
)
def test_durations(text: str, iso: str) -> None:
    assert iso_duration(text) == iso


@pytest.mark.parametrize("text", ["", "soon", "2", "2x", "-1h", "0s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer than zero"):
        iso_duration(text)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.42, "0.4 s"), (61, "61 s"), (200, "3 min"), (7500, "2 h 5 min"), (400000, "4 d")]
)
def test_spans_of_time(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_sizes() -> None:
    assert [size(count) for count in (None, 5, 2048, 3 << 30)] == ["", "5 B", "2.0 KiB", "3.0 GiB"]
    assert ago(None) == ""
