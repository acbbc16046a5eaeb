"""Started by the script of a Slurm job, with the interpreter of the node: ``start.py lead|member TICKET [ATTEMPT]``.

It lies in what travels with the job, and takes everything else from there.
"""

import gc
import sys

OLDEST = (3, 11)
#: The interpreter is started with these: packages and variables of the user's do not change it, nor slow its start.
FLAGS = ("-S", "-E")
#: Exit code of a node that cannot carry out anything; the output of the script says why.
CANNOT_START = 120


def main() -> int:
    if sys.version_info < OLDEST:
        wanted, found = (".".join(map(str, version[:2])) for version in (OLDEST, sys.version_info))
        # Python's own words for an old interpreter would be a syntax error somewhere else.
        sys.stderr.write(
            "trainshed: the nodes need Python "
            + wanted
            + " or later, and "
            + sys.executable
            + " is "
            + found
            + ": set the engine's option 'python'\n"
        )
        return CANNOT_START
    here = __file__.rsplit("/trainshed/engines/slurm/node/", 1)[0]
    # Not the folder of this file: its modules have names that others have too.
    sys.path[0] = here
    gc.disable()  # Until all is loaded that stays; collecting meanwhile finds nothing.
    from trainshed.engines.slurm.node import job

    return job.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
