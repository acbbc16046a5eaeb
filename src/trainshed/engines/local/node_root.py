"""A node's setup where users are strangers: as root of the node, which is nobody on the machine.

Volumes and setup task of a cluster are commands of its users. They run in a PID namespace, in a view of the machine
without the service's home, and in a ground (``runner.ground``) that later attempts of the node take over: what is
mounted there is seen by them, and what is left in the background can touch neither the service nor another workspace.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from trainshed.engines.local.leftovers import MARK_VARIABLE
from trainshed.engines.local.messages import encode
from trainshed.resources.reasons import Reason
from trainshed.runner import claims, isolation, linux
from trainshed.runner import view as views
from trainshed.runner.environment import stranger_environment
from trainshed.runner.ground import NewGround, reset_child
from trainshed.runner.spec import View

#: Carries out the setup in the environment given, and tells what went wrong.
Setup = Callable[[dict[str, str]], Reason | None]


def setup_as_stranger(view: View, log_folder: str, act: Setup, answer: socket.socket) -> str:
    """Start the setup and hand the ground's descriptors to the node process; what hindered that, or nothing.

    ``log_folder`` is where the setup writes, so that its workspace's folder there can be made. The setup says
    ``{"prepared": ...}`` itself, on the same line, and lives as long as anything that it left.
    """
    user = view.user
    if user.problem:
        return user.problem
    try:
        linux.forbid_new_privileges()
        home = Path(view.private, "home")
        home.mkdir(parents=True, exist_ok=True)
        os.chown(home, user.root, user.root)
        views.prepare_private(view)
        claims.open_to_all(view.shared)
        claims.claim(view.shared, log_folder, _segment(view, log_folder), user)
        files = views.accounts(user, str(home), view.private)
        linux.unshare(linux.CLONE_NEWPID | linux.CLONE_NEWIPC)
        ground = NewGround()
        child = os.fork()
        if child == 0:
            _live(view, files, ground, act, answer)
        made = ground.open(child, user)
        socket.send_fds(answer, [b"\n"], [made.mounts, made.users])
        made.close()
    except OSError as error:
        return (
            f"The node's setup cannot run as a root of its own: {error.strerror or error} {error.filename or ''}. "
            "See `trainshed doctor`."
        )
    return ""


def _live(view: View, files: dict[str, str], ground: NewGround, act: Setup, answer: socket.socket) -> None:
    """The first process of the setup's PID namespace. Never returns."""
    try:
        reset_child()
        ground.make(lambda: _build(view, files))
        linux.set_parent_death_signal(signal.SIGKILL)
        mark = {MARK_VARIABLE: os.environ.get(MARK_VARIABLE, "")}
        account = {"HOME": f"{view.private}/home", "USER": views.ROOT_NAME, "LOGNAME": views.ROOT_NAME}
        reason = act({**stranger_environment(os.environ), **account, "SHELL": "/bin/bash", **mark})
        answer.sendall(encode({"prepared": reason.to_json() if reason else None}))
        answer.close()
        isolation.reap_all()
    finally:
        os._exit(0)


def _build(view: View, files: dict[str, str]) -> None:
    views.build(view, files, fuse=True)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "hidepid=2")


def _segment(view: View, log_folder: str) -> str:
    """What lies below the user's prefix, which may be any: ``{subscription}/{group}/workspaces/{workspace}/...``."""
    parts = log_folder[len(view.shared) :].strip("/").split("/")
    if "workspaces" in parts[2:-1]:
        place = parts.index("workspaces", 2)
        return "/".join(parts[place - 2 :])
    return ""
