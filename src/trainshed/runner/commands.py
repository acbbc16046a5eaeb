"""Runs a bash command line to its end, for those who have nothing else to do meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping

from trainshed.volumes import CommandResult


def run_to_end(command: str, environment: Mapping[str, str], seconds: float) -> CommandResult:
    """What it prints goes to a file: a mount program that stays in the background may keep it open."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                ["bash", "-c", command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            return CommandResult(127, str(error))
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return CommandResult(124, f"no end after {seconds:g} s")
        output.seek(0)
        return CommandResult(code, output.read().decode(errors="replace"))
