"""What runs on a node stays light: these modules load neither pydantic nor any other heavy package."""

from __future__ import annotations

import subprocess
import sys

LIGHT = (
    "trainshed.resources.directories, trainshed.resources.toolsettings, trainshed.resources.reasons, trainshed.toolkits"
)


def test_node_side_modules_load_no_pydantic() -> None:
    code = f"import sys, {LIGHT}; print(sorted({{'pydantic', 'json.decoder', 'asyncio'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
