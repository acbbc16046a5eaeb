"""What holds for every test: it and the programs that it starts keep their compiled bytecode."""

from __future__ import annotations

import os
import sys

import pytest

# A service, a node daemon and a command are started some five hundred times. Without bytecode each start compiles all
# of the package again, which takes longer than the start itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-snapshots``: what people read has changed on purpose (``tests.support.snapshots``)."""
    parser.addoption("--update-snapshots", action="store_true", help="write the texts that tests compare anew")
