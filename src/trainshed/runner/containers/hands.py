"""Who acts inside of a container: children of the runner that enter its namespaces and become its root."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

from trainshed.runner import linux
from trainshed.runner.containers.settings import CAPABILITIES
from trainshed.runner.hands import Files, Forked
from trainshed.runner.processes import DEFAULT_SIGNALS

#: In the order in which they are entered: the right to enter the others goes with the user namespace.
KINDS = {
    "mnt": linux.CLONE_NEWNS,
    "uts": linux.CLONE_NEWUTS,
    "ipc": linux.CLONE_NEWIPC,
    "user": linux.CLONE_NEWUSER,
}


class Entered(Forked):
    """Root of the container, with the rights that containers have by default.

    Where the container has a user namespace, its root is the job's user on the machine. Processes stay in the caller's
    PID namespace, control group and network.
    """

    def __init__(self, namespaces: Mapping[str, int], shell: str, death_signal: int) -> None:
        """``namespaces``: descriptors by kind. ``shell``: path of bash, or sh, in the container."""
        self._namespaces = dict(namespaces)
        self._shell = shell
        self._death_signal = death_signal

    def close(self) -> None:
        """Let go of the container: its mounts end with its last process."""
        while self._namespaces:
            with suppress(OSError):
                os.close(self._namespaces.popitem()[1])

    def start(self, command_line: str, environment: Mapping[str, str], files: Files, folder: str) -> int:
        for text in (command_line, folder, *environment, *environment.values()):
            if "\0" in text:
                raise ValueError("embedded null byte")
        return super().start(command_line, environment, files, folder)

    def _arguments(self, command_line: str) -> tuple[str, ...]:
        return (self._shell, "-c", command_line)

    def _become(self) -> None:
        # Nobody inside may look into a child that is not all inside yet.
        linux.forbid_inspection()
        sys.meta_path.clear()
        signal.set_wakeup_fd(-1)
        for kind, flag in KINDS.items():
            if kind in self._namespaces:
                linux.enter_namespace(self._namespaces[kind], flag)
        for number in DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        linux.keep_capabilities(CAPABILITIES)
        if self._death_signal:
            linux.set_parent_death_signal(self._death_signal)
