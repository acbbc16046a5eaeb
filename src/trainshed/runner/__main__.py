"""The runner as a program: ``python -m trainshed.runner SPECFILE``, for engines that start it so.

Standard input's first line is JSON with what the file must not hold: ``{"secrets": {...}, "private": {...}, "token":
"..."}``. SIGTERM asks for a stop. The exit code is 0 after a success, the job's where it has one, else 1; the outcome
is in the state directory.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from trainshed.runner.failure import SUCCEEDED
from trainshed.runner.main import run
from trainshed.runner.spec import RunnerSpec


def main(arguments: list[str]) -> int:
    """Carry out the attempt that the spec file describes; the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m trainshed.runner SPECFILE   (secrets and token: one JSON line on stdin)\n")
        return 2
    try:
        spec = RunnerSpec.from_dict(json.loads(Path(arguments[0]).read_text()))
        beside = json.loads(sys.stdin.readline() or "{}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        sys.stderr.write(f"trainshed.runner: cannot read the spec {arguments[0]} or standard input: {error!r}\n")
        return 2
    outcome = run(
        replace(spec, token=beside.get("token", "")), beside.get("secrets") or {}, -1, beside.get("private") or {}
    )
    if outcome.result == SUCCEEDED:
        return 0
    return outcome.exit_code or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
