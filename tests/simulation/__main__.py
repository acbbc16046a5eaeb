"""``python -m tests.simulation``: one seed with its story, or many with a summary."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.many import report, timed
from tests.simulation.world import World


def main() -> int:
    """Returns 1 when an invariant is violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--trace", action="store_true", help="show what happened, line by line (with --seed)")
    parser.add_argument("--seeds", type=int, default=2000, metavar="N", help="run so many")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes")
    arguments = parser.parse_args()
    if arguments.seed is None:
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        results, seconds = timed(seeds, arguments.workers, progress=True)
        print(report(results, seconds))
        return 1 if results.failures else 0
    world = World(arguments.seed)
    story = world.run()
    if arguments.trace:
        print(world.profile)
        print("\n".join(story.lines()))
    print(f"seed {arguments.seed}: story {story.hash}, {story.violation or 'all invariants hold'}")
    return 1 if story.violation else 0


if __name__ == "__main__":
    sys.exit(main())
