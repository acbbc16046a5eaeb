"""What the command line imports, and so how long it takes to say something."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_HEAVY = [
    "httpx",
    "rich",
    "yaml",
    "pydantic",
    "asyncio",
    "fastapi",
    "sqlalchemy",
    "pathspec",
    "trainshed.client.client",
]
_PROBE = """
import json, sys
from trainshed.cli.main import run
code = run(sys.argv[1:])
sys.stdout.flush()
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def _modules_after(*arguments: str) -> set[str]:
    probe = [sys.executable, "-c", _PROBE, *arguments]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["job", "--help"], ["run", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert _modules_after(*arguments).intersection(_HEAVY) == set()


def test_a_listing_does_without_models_tables_and_servers() -> None:
    loaded = _modules_after("job", "list")
    assert loaded.intersection({"pydantic", "rich", "yaml", "fastapi", "sqlalchemy", "asyncio", "pathspec"}) == set()
