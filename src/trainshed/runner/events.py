"""The runner's one loop: descriptors, children, timers. Single-threaded; handlers may raise to end the attempt."""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import Any

#: Handler of a readable descriptor.
Readable = Callable[[], None]
#: Handler of a child's end; gets its exit code, 128 + n when signal n killed it (as a shell says it).
Ended = Callable[[int], None]


class Timer:
    """A call in the future that can be cancelled."""

    __slots__ = ("call", "cancelled")

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True


class EventLoop:
    """Waits for descriptors, children and times, and calls their handlers, one at a time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Ended] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._signals: dict[int, Callable[[], None]] = {}
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _no_action)
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_signals)

    def watch(self, file: Any, handler: Readable) -> None:
        """Call the handler whenever the file or descriptor is readable."""
        self._selector.register(file, selectors.EVENT_READ, handler)

    def unwatch(self, file: Any) -> None:
        """No more; does nothing when it was not watched."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(file)

    def on_exit(self, pid: int, handler: Ended) -> None:
        """Call the handler when this child has ended. Children without a handler are reaped in silence."""
        self._children[pid] = handler

    def on_signal(self, numbers: Iterable[signal.Signals], handler: Callable[[], None]) -> None:
        """Call the handler when one of these signals arrives."""
        for number in numbers:
            self._signals[number] = handler
            signal.signal(number, _no_action)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, that many seconds from now."""
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    @property
    def living(self) -> frozenset[int]:
        """Children that are watched and have not ended."""
        return frozenset(self._children)

    def run_until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Handle events until the condition holds (True), or until so many seconds have passed (False)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            wait = self._next_wait(deadline)
            if wait is not None and wait <= 0 and deadline is not None and time.monotonic() >= deadline:
                return False
            for key, _ in self._selector.select(wait):
                key.data()
            self._run_timers()
        return True

    def close(self) -> None:
        """Let go of the signals and descriptors of the loop itself."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _next_wait(self, deadline: float | None) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        times = [when for when in (deadline, self._timers[0][0] if self._timers else None) if when is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.call()

    def _on_signals(self) -> None:
        numbers: set[int] = set()
        with suppress(BlockingIOError):
            while received := self._woken.recv(4096):
                numbers.update(received)
        if signal.SIGCHLD in numbers:
            self._reap()
        for number in numbers:
            if number in self._signals:
                self._signals[number]()

    def _reap(self) -> None:
        ended: list[tuple[Ended, int]] = []
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                handler = self._children.pop(pid, None)
                if handler is not None:
                    ended.append((handler, exit_code_of(status)))
        # Every end is known before a handler may raise.
        for handler, code in ended:
            handler(code)


def exit_code_of(status: int) -> int:
    """Exit code as a shell reports it: 128 + n for a process that signal n killed."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _no_action(_number: int, _frame: object) -> None:
    """A Python-level handler makes the interpreter write to the wake-up descriptor; the loop does the work."""
