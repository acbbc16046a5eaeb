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
    # The lock is the kernel's: it is free as soon as the process that holds it is gone, and not before.
    with (folder / f"{name}-{rank}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (folder / f"{name}-{rank}.overlap").touch()
        time.sleep(seconds)
        if rank == "0" and status == 0:
            with (folder / f"{name}.done").open("a") as done:
                done.write(f"{attempt}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
