"""The examples as a user runs them: job file and code through the command line, on two nodes, result checked."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.support.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: Seconds that training may take; PyTorch's import alone takes several on a busy machine.
PATIENCE = 100.0


@pytest.mark.parametrize(
    ("example", "needs", "extra", "model"),
    [("digits-mpi", "mpi4py", "demo", "digits.npz"), ("digits-pytorch", "torch", "pytorch", "digits.pt")],
    ids=["mpi", "pytorch"],
)
def test_trains_on_two_nodes(trainshed: Program, example: str, needs: str, extra: str, model: str) -> None:
    for module in (needs, "sklearn"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'trainshed[demo,{extra}]'")
    folder = EXAMPLES / example
    trainshed.ok("job", "create", "-n", example, "-c", "c", "-f", str(folder / "job.json"), "--code", str(folder))
    waited = trainshed("job", "wait", "-n", example, "--interval", "0.1", seconds=PATIENCE)
    log = trainshed("job", "logs", "-n", example)
    assert waited.code == 0, waited.err + log.out + trainshed("job", "logs", "-n", example, "--stderr").out
    accuracy = re.search(r"^final test accuracy ([0-9.]+)$", log.out, re.MULTILINE)
    assert accuracy is not None and float(accuracy[1]) >= 0.95
    trainshed.ok("job", "files", "download", "-n", example, "-d", "MODEL", "--to", "model")
    assert (trainshed.folder / "model" / model).stat().st_size > 1000
