"""Who of a tree of processes gets the warning signal: a table, and processes that are really there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from trainshed.runner.warned import listeners, takes

#: bash (1) -> launcher (2) -> ranks (3, 4), the first with workers (5, 6).
TREE = {1: [2], 2: [3, 4], 3: [5, 6]}


@pytest.mark.parametrize(
    ("roots", "taking", "catching_all", "told"),
    [
        ([1], {}, {}, []),
        ([1], {3, 4}, {}, [3, 4]),
        # Workers that were forked have their parent's handler.
        ([1], {3, 4, 5, 6}, {}, [3, 4]),
        ([1], {4, 5}, {}, [5, 4]),
        # A launcher that takes it passes it on.
        ([1], {2, 3, 4}, {}, [2]),
        ([3, 4], {2, 3, 4}, {}, [3, 4]),
        # A Go program may or may not look at its signals: who is below it is asked first.
        ([1], {3}, {2}, [3]),
        ([1], {}, {2}, [2]),
        ([9], {9}, {}, [9]),
    ],
)
def test_listeners(roots: list[int], taking: set[int], catching_all: set[int], told: list[int]) -> None:
    assert listeners(roots, TREE, lambda pid: None if pid in catching_all else pid in taking) == told


_READY = "print('ready', flush=True); time.sleep(600)"


@pytest.mark.parametrize(
    ("program", "taken"),
    [
        (f"import time; {_READY}", False),
        (f"import signal, time; signal.signal(signal.SIGUSR2, signal.SIG_IGN); {_READY}", False),
        (f"import signal, time; signal.signal(signal.SIGUSR2, lambda *_: None); {_READY}", True),
        # One that waits for it: sigwait(3).
        (f"import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); {_READY}", True),
        # Another thread would die of it.
        (
            "import signal, threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start(); "
            f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); {_READY}",
            False,
        ),
    ],
)
def test_what_a_process_takes(program: str, taken: bool) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert takes(process.pid, signal.SIGUSR2) is taken
        finally:
            process.kill()


def test_one_that_catches_everything() -> None:
    program = (
        "import signal, time\n"
        "for n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(n, lambda *_: None)\n"
        f"{_READY}"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert takes(process.pid, signal.SIGUSR2) is None
        finally:
            process.kill()


def test_a_process_that_is_gone_takes_nothing() -> None:
    child = os.posix_spawn("/bin/true", ["/bin/true"], {})
    os.waitpid(child, 0)
    assert takes(child, signal.SIGUSR2) is False
