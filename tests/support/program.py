"""The real ``trainshed`` program as a user's shell runs it, on the home of a live service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Seconds that a command may take; tests of long jobs give their own.
PATIENCE = 30.0
_BINARIES = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Program:
    """Calls ``trainshed`` in a folder, with a user's home that has no SSH key."""

    home: Path
    folder: Path
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINSHED_")}
        return {
            **kept,
            "PATH": f"{_BINARIES}:{os.environ.get('PATH', '')}",
            "HOME": str(self.folder),
            "TRAINSHED_HOME": str(self.home),
            "COLUMNS": "160",
            **self.more,
        }

    def __call__(self, *arguments: str, seconds: float = PATIENCE) -> Done:
        """Run it to its end. Raises TimeoutExpired."""
        with self.start(*arguments) as running:
            try:
                out, err = running.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                running.kill()
                raise
        return Done(running.returncode, out, err)

    def ok(self, *arguments: str, seconds: float = PATIENCE) -> Done:
        """Run it to its end; it must exit with 0."""
        done = self(*arguments, seconds=seconds)
        assert done.code == 0, f"trainshed {' '.join(arguments)} exited {done.code}\n{done.out}\n{done.err}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run it and go on; in a session of its own, with both outputs as pipes."""
        return subprocess.Popen(
            [str(_BINARIES / "trainshed"), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_interrupts,
        )


def _heed_interrupts() -> None:
    """A shell without job control starts its background jobs with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
