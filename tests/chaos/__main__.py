"""``python -m tests.chaos --minutes 5``: the chaos test for as long as one likes."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.chaos import Chaos
from tests.support.services import running


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="Of an earlier run.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        home, folder = Path(place) / "home", Path(place) / "shared"
        folder.mkdir()
        try:
            with running(home, arguments=("--node-retry-seconds", "2")) as service:
                Chaos(service, folder, given.seed, lambda line: print(line, flush=True)).run(60 * given.minutes)
        except BaseException:
            for log in (home.parent / "home.log", home / "logs" / "daemon.log"):
                if log.exists():
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}", file=sys.stderr)
            raise
    print("nothing is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
