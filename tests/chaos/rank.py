"""What each rank of a chaos job runs: tells of another attempt that lives, computes a while, says that it is done."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path


def main() -> int:
    folder, name, seconds, status = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    rank, attempt = os.environ["RANK"], os.environ["TRAINSHED_ATTEMPT"]
    own = folder / f"{name}-{attempt}-{rank}.lock"
    # The lock is the kernel's: it is free as soon as the process that holds it is gone, and not before.
    with own.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _overlap(folder, name, f"attempt {attempt}, rank {rank} runs already")
        for other in folder.glob(f"{name}-*-*.lock"):
            if not other.name.startswith(f"{name}-{attempt}-") and _is_held(other):
                _overlap(folder, name, f"{other.name} is held while {own.name} begins")
        _note(folder, name, f"begin {attempt} {rank}")
        time.sleep(seconds)
        if rank == "0" and status == 0:
            with (folder / f"{name}.done").open("a") as done:
                done.write(f"{attempt}\n")
        _note(folder, name, f"end {attempt} {rank}")
    return status


def _is_held(path: Path) -> bool:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _overlap(folder: Path, name: str, what: str) -> None:
    with (folder / f"{name}.overlap").open("a") as out:
        out.write(f"{what}\n")


def _note(folder: Path, name: str, what: str) -> None:
    with (folder / f"{name}.notes").open("a") as out:
        out.write(f"{time.time():.3f} {what}\n")


if __name__ == "__main__":
    sys.exit(main())
