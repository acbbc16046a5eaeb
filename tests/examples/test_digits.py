"""The examples as a user runs them: job file and code through the command line, on their nodes, result checked."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.frameworks.framework import Framework
from tests.frameworks.install import FRAMEWORKS
from tests.support.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(200)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: Seconds that training may take; imports of the big frameworks alone take several on a busy machine.
PATIENCE = 160.0
_PROPERTIES = '"properties": {'
_VARIABLES = '"environmentVariables": ['
_SCRIPT = '"pythonScriptFilePath": "train.py"'


@dataclass(frozen=True, slots=True)
class Example:
    """One folder of ``examples/digits-*``: what it needs, what it leaves, how many take part in it."""

    name: str
    #: A package of the tests' own environment and the extra that has it, or a framework with one of its own.
    needs: str
    extra: str = ""
    model: str = "digits.npz"
    parts: str = ""
    #: Finds accuracy and parts in what it said; the last one counts.
    told: str = r"^final test accuracy ([0-9.]+)(?: of (.*))?$"

    def why_not(self) -> str | None:
        """Why it cannot run here, or None when it can."""
        if not self.extra:
            return FRAMEWORKS[self.needs].why_not()
        missing = [module for module in (self.needs, "sklearn") if importlib.util.find_spec(module) is None]
        return f"{missing[0]} is not installed: pip install 'trainshed[demo,{self.extra}]'" if missing else None


DIGITS = (
    Example("mpi", "mpi4py", "demo"),
    Example("pytorch", "torch", "pytorch", "digits.pt"),
    Example("torchrun", "torch", "pytorch", "digits.pt", "2 ranks"),
    Example("jax", "jax", parts="2 ranks"),
    Example("tensorflow", "tensorflow", parts="2 ranks"),
    Example("tensorflow-ps", "tensorflow", parts="2 workers"),
    Example("accelerate", "accelerate", model="digits.pt", parts="2 ranks"),
    Example("lightning", "accelerate", model="digits.pt", parts="2 ranks"),
    Example("ray", "ray", parts="2 nodes"),
    Example("deepspeed", "deepspeed", model="digits.pt", parts="2 ranks"),
    Example("cntk", "cntk", model="digits.model", parts="2 ranks"),
    Example(
        "caffe", "caffe", model="digits_iter_1000.caffemodel", told=r"Test net output #\d+: accuracy = ([0-9.]+)()$"
    ),
    Example("caffe2", "caffe2", parts="2 shards"),
    Example("horovod", "horovod", model="digits.pt", parts="2 ranks"),
    Example("chainer", "chainer", parts="2 ranks"),
)


def with_framework(text: str, framework: Framework) -> str:
    """The job file with what a user would write into it: the framework's interpreter and variables."""
    if _SCRIPT in text:
        text = text.replace(_SCRIPT, f'{_SCRIPT}, "pythonInterpreterPath": "{framework.interpreter}"')
    variables = [json.dumps({"name": name, "value": value}) for name, value in framework.environment.items()]
    if not variables:
        return text
    if _VARIABLES in text:
        return text.replace(_VARIABLES, f"{_VARIABLES} {', '.join(variables)},")
    assert _PROPERTIES in text
    return text.replace(_PROPERTIES, f"{_PROPERTIES} {_VARIABLES} {', '.join(variables)} ],")


@pytest.mark.parametrize("example", DIGITS, ids=lambda example: example.name)
def test_trains_to_a_good_accuracy(trainshed: Program, example: Example) -> None:
    reason = example.why_not()
    if reason is not None:
        pytest.skip(reason)
    name = f"digits-{example.name}"
    folder = EXAMPLES / name
    text = (folder / "job.json").read_text()
    if not example.extra:
        text = with_framework(text, FRAMEWORKS[example.needs])
    file = trainshed.folder / "job.json"
    file.write_text(text)
    trainshed.ok("job", "create", "-n", name, "-c", "c", "-f", str(file), "--code", str(folder))
    waited = trainshed("job", "wait", "-n", name, "--interval", "0.1", seconds=PATIENCE)
    log = trainshed("job", "logs", "-n", name).out + trainshed("job", "logs", "-n", name, "--stderr").out
    assert waited.code == 0, waited.err + log
    results = re.findall(example.told, log, re.MULTILINE)
    assert results, log
    accuracy, parts = results[-1]
    assert float(accuracy) >= 0.95
    assert parts == example.parts
    trainshed.ok("job", "files", "download", "-n", name, "-d", "MODEL", "--to", "model")
    assert (trainshed.folder / "model" / example.model).stat().st_size > 1000
