"""A STAND-IN for the scripts (and the program ``cntk``) of the original's recipes, whose frameworks nobody publishes.

It trains nothing. It runs in the recipe's image, joins its MPI job where there is one, looks for its data and writes to
its outputs as the real one would, and says what it was given as one line of JSON.
"""

import json
import os
import signal
import sys
from pathlib import Path

if "--job_name=ps" in sys.argv:
    # A parameter server serves until it is ended.
    signal.pause()
mounts = Path(os.environ["AZ_BATCHAI_JOB_MOUNT_ROOT"])
if "PMI_RANK" in os.environ:
    from mpi4py import MPI

    rank, size = MPI.COMM_WORLD.rank, len(MPI.COMM_WORLD.allgather(MPI.COMM_WORLD.rank))
else:
    rank, size = int(os.environ.get("AZ_BATCHAI_TASK_INDEX", "0")), 1
written = []
for name, value in os.environ.items():
    if name.startswith("AZ_BATCHAI_OUTPUT_"):
        Path(value, f"of-rank-{rank}").write_text(f"{os.environ['IMAGE']}\n")
        written.append(name.removeprefix("AZ_BATCHAI_OUTPUT_"))
prepared = Path("/prepared")
targets = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
told = {
    "script": sys.argv[0],
    "arguments": sys.argv[1:],
    "rank": rank,
    "size": size,
    "host": os.environ.get("HOSTNAME"),
    "image": os.environ["IMAGE"],
    "mounted": sorted(path.name for path in targets if path.parent == mounts),
    "data": sorted(path.read_text() for path in mounts.glob("data/*/content")),
    "prepared": prepared.read_text().splitlines() if prepared.exists() else [],
    "written": sorted(written),
}
sys.stdout.write(json.dumps(told) + "\n")
