"""``python -m tests.chaos --minutes 5``: the chaos test for as long as one likes."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.chaos.chaos import Chaos
from tests.chaos.grounds import GROUNDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--engine", choices=sorted(GROUNDS), default="local", help="Where the jobs run.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="Of an earlier run.")
    given = parser.parse_args()
    kind = GROUNDS[given.engine]
    if why := kind.why_not():
        print(why, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        folder = Path(place) / "shared"
        folder.mkdir()
        ground = kind(Path(place))
        with ground.running() as service:
            try:
                Chaos(ground, service, folder, given.seed, partial(print, flush=True)).run(60 * given.minutes)
            except BaseException:
                for log in (service.home.parent / "home.log", *ground.logs()):
                    if log.exists():
                        print(f"--- {log.name}\n{log.read_text(errors='replace')[-200000:]}", file=sys.stderr)
                raise
    print("nothing is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
