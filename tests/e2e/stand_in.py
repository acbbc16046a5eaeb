"""A STAND-IN for the programs ``cntk`` (BrainScript) and ``caffe``, which nobody publishes any more.

It trains nothing. It joins its MPI job as the real ones do, and says what it was given as one line of JSON.
"""

import json
import os
import sys
from pathlib import Path

from mpi4py import MPI

comm = MPI.COMM_WORLD
ranks = comm.allgather(comm.rank)
name = Path(sys.argv[0]).name
kept = ("AZ_BATCH", "CUDA_", "KERAS_", "MY_")
told = {
    "program": f"stand-in for {name}",
    "arguments": sys.argv[1:],
    "directory": str(Path.cwd()),
    "environment": {name: value for name, value in os.environ.items() if name.startswith(kept)},
    "host": os.environ.get("HOSTNAME"),
    "rank": comm.rank,
    "ranks": ranks,
}
sys.stdout.write(json.dumps(told) + "\n")
sys.stdout.flush()
sys.exit(int(os.environ.get("MY_EXIT_CODE", "0")) if comm.rank == comm.size - 1 else 0)
