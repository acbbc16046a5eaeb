"""Starts real ``trainshed serve`` processes without the seconds that an interpreter and its imports take.

Run as a program: for each line of standard input (JSON: arguments, variables, log) it forks a process that is the
service from then on, and prints its pid. The processes are reaped by themselves; their exit status is the log's last
line. They are ended when this program's standard input ends without them being so.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    import psycopg  # noqa: F401

    import trainshed.server
    import trainshed.store.coordination  # noqa: F401
    from trainshed.cli.main import run

    gc.collect()
    gc.freeze()
    # Nobody waits for them here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    processes: list[int] = []
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(asked, run)
        processes.append(os.pidfd_open(pid))
        print(pid, flush=True)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)


def _become(asked: dict[str, Any], run: Any) -> None:
    """The service, with this process's standard error in the log."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.environ.update(asked["variables"])
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor, target in ((null, 0), (null, 1), (log, 2)):
        os.dup2(descriptor, target)
    status = 1
    try:
        status = run(["serve", *asked["arguments"]])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os.write(2, f"exit status {status}\n".encode())
        os._exit(status)


if __name__ == "__main__":
    main()
