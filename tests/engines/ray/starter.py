"""Runs Ray's command line in forks of one process that has loaded it: an import for each ``ray start`` takes long.

A line of JSON with the arguments and the file of the output comes in, the process id goes out. Each leads a session.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import traceback
from typing import NoReturn

from ray.scripts.scripts import cli


def _run(arguments: list[str], output: str) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    # Forks may go on with one and the same state of Ray's random numbers, and nodes of one id are one node.
    os.environ["RAY_OVERRIDE_NODE_ID_FOR_TESTING"] = secrets.token_hex(28)
    null, out = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(descriptor, target)
    code = 1
    try:
        cli(arguments, prog_name="ray")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    # Whoever asked looks at the processes itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        if (pid := os.fork()) == 0:
            _run(asked["arguments"], asked["output"])
        print(pid, flush=True)
