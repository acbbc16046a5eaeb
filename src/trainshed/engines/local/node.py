"""A node: a process forked from the daemon that holds what belongs to the node and forks a runner for each attempt.

It has the node's control group, host name (UTS namespace) and mount namespace where permitted. It dies with the daemon
(parent-death signal), and its runners die with it. It is a child subreaper: whatever a killed runner leaves comes back
to it, and it reports an attempt's end only when nothing of that attempt lives.

Messages from the daemon: ``start`` (spec, secrets), ``stop``, ``kill``, ``leave``. To the daemon: ``up``, ``prepared``,
``ended`` (with the outcome, or none when the runner was lost), ``flushing`` (it leaves when its volumes are written).
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainshed.engines.local import images, setup
from trainshed.engines.local.cgroups import Limits, NodeGroup
from trainshed.engines.local.leftovers import children, kill_trees
from trainshed.engines.local.messages import Lines, Message, encode
from trainshed.engines.local.removal import delete, detach, mounted_below
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.volume_sources import VolumeSource
from trainshed.runner import isolation, linux
from trainshed.runner import main as runner
from trainshed.runner.events import EventLoop
from trainshed.runner.ground import Ground
from trainshed.runner.outcome import read as read_outcome
from trainshed.runner.serving import serve
from trainshed.runner.spec import View
from trainshed.runner.volume_holder import Wanted
from trainshed.runner.volume_holding import VolumeHolding
from trainshed.runner.volume_places import Base
from trainshed.volumes import FLUSH_SECONDS, managed

#: Seconds between looks at processes that were killed and have not gone yet.
_LOOK_AGAIN = 0.01
#: Bytes that are read at once: more would make every read allocate and give back pages.
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node process is started with."""

    node_id: str
    host_name: str
    group: str
    limits: Limits
    mount_root: str
    setup: dict[str, Any] | None
    setup_suffix: str
    setup_secrets: dict[str, str] = field(repr=False)
    #: Who runs the setup and what it sees; None: the service's own user.
    view: View | None = None
    volumes: tuple[VolumeSource, ...] = ()
    #: Where the temp directories of its jobs are; and where volumes are held and keep what is not written yet.
    jobs: str = ""
    volumes_folder: str = ""
    #: Secrets that are no variables, by JSON pointer.
    private: dict[str, str] = field(default_factory=dict, repr=False)
    #: Where images of containers are, and what the node may write meanwhile.
    image_places: tuple[str, str] = ("", "")


def become_node(config: NodeConfig, channel: socket.socket, daemon_pid: int) -> None:
    """The node process's whole life, in a fresh fork. Never returns."""
    with _dying_loudly():
        Node(config, channel, daemon_pid).live()


@dataclass(slots=True, eq=False)
class RunnerProcess:
    """A fork that carries out attempts, one after another (``runner.serving.serve``)."""

    pid: int
    control: socket.socket
    lines: Lines = field(default_factory=Lines)
    #: The attempt that it has now, and where that attempt's outcome will be; empty while it waits.
    attempt_id: str = ""
    state: str = ""

    def send(self, message: Message) -> None:
        """Its death is noticed elsewhere."""
        with suppress(OSError):
            self.control.sendall(encode(message))

    def receive(self, loop: EventLoop) -> list[Message]:
        """What it has said since. When the line is cut it is ending, and there is nothing more to hear."""
        try:
            data = self.control.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            loop.unwatch(self.control)
        return self.lines.feed(data)


class Node:
    """The state of the node process."""

    def __init__(self, config: NodeConfig, channel: socket.socket, daemon_pid: int) -> None:
        self._config = config
        self._channel = channel
        self._daemon_pid = daemon_pid
        self._lines = Lines()
        self._words = Lines()
        self._image_words = Lines()
        self._images_told = False
        #: The runner of each attempt, and those that wait for one.
        self._busy: dict[str, RunnerProcess] = {}
        self._idle: list[RunnerProcess] = []
        self._holder = 0
        #: Who holds the cluster's managed volumes, and by attempt the process that holds those of a job.
        self._holding: VolumeHolding | None = None
        self._job_holders: dict[str, int] = {}
        self._leaving = False
        #: What the setup mounted, where it ran as a root of its own.
        self._ground: Ground | None = None

    def live(self) -> None:
        """Until the daemon says ``leave`` or dies."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        keep = self._channel.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 1 << 20)
        group = NodeGroup(self._config.group)
        group.create(self._config.limits)
        group.enter()
        self._own_namespaces = self._isolate()
        linux.become_subreaper()
        linux.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != self._daemon_pid:
            return
        why_not = runner.warm_up(self._config.host_name)
        gc.collect()
        gc.freeze()
        self._loop = EventLoop()
        self._loop.watch(self._channel, self._read)
        self._send(
            {"up": {"noLimits": group.refused, "noNamespaces": why_not, "ownNamespaces": self._own_namespaces}},
        )
        self._fetch_images()
        self._loop.run_until(lambda: self._leaving)
        self._end_everything()

    def _isolate(self) -> bool:
        """Own host name and mounts. False where that is not permitted: runners then try by themselves."""
        if os.environ.get(isolation.ISOLATION_VARIABLE) == "none":
            return False
        try:
            linux.unshare(linux.CLONE_NEWUTS | linux.CLONE_NEWNS)
            linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
            linux.set_host_name(self._config.host_name)
        except OSError:
            return False
        return True

    def _send(self, message: Message) -> None:
        with suppress(OSError):
            self._channel.sendall(encode(message))

    def _read(self) -> None:
        try:
            data = self._channel.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._leaving = True
            return
        for message in self._lines.feed(data):
            self._handle(message)

    def _handle(self, message: Message) -> None:
        if "start" in message:
            self._start(message)
        elif "stop" in message:
            attempt_id = message["stop"]
            if attempt_id in self._busy:
                stop = {name: message[name] for name in ("grace", "warning")}
                self._busy[attempt_id].send({**stop, "stop": message["reason"], "attempt": attempt_id})
        elif "kill" in message:
            if message["kill"] in self._busy:
                with suppress(ProcessLookupError):
                    os.kill(self._busy[message["kill"]].pid, signal.SIGKILL)
        elif "leave" in message:
            self._leaving = True

    def _fetch_images(self) -> None:
        """In a child, so that the node answers meanwhile; the setup comes after them."""
        config = self._config
        wanted = (config.setup or {}).get(images.MEMBER)
        if not wanted:
            self._start_setup()
            return
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            with _dying_loudly():
                user = config.view.user if config.view else None
                images.fetch_all(config.node_id, wanted, config.private, config.image_places, user, theirs)
        theirs.close()
        self._loop.watch(ours, lambda: self._heard_of_images(ours))

    def _heard_of_images(self, line: socket.socket) -> None:
        data = line.recv(_CHUNK)
        for message in self._image_words.feed(data):
            if "preparing" in message:
                self._send(message)
                continue
            self._images_told = True
            if message["images"] is None:
                self._start_setup()
            else:
                self._send({"prepared": message["images"]})
        if not data:
            self._loop.unwatch(line)
            line.close()
            if not self._images_told:
                reason = Reason(ReasonCode.CONTAINER_FAILED, "What fetched the node's images was killed.")
                self._send({"prepared": reason.to_json()})

    def _mount_volumes(self) -> Reason | None:
        """The cluster's managed volumes, which setup and jobs see; why not, or None. The node answers meanwhile."""
        config = self._config
        sources = managed(config.volumes)
        if not sources:
            return None
        wanted = Wanted(
            sources=tuple(sources),
            secrets=config.private,
            base=Base(config.mount_root),
            user=config.view.user if config.view is not None else None,
            folder=f"{config.volumes_folder}/held",
            cache=config.volumes_folder,
            node=config.node_id,
        )
        try:
            self._holding = VolumeHolding(wanted, self._loop, self._note, adopt=True)
        except OSError as error:
            text = f"The volumes of node {config.node_id} cannot be mounted: {error}."
            return Reason(ReasonCode.VOLUME_MOUNT_FAILED, text, {"node": config.node_id})
        reason = self._holding.mount(lambda: self._leaving)
        if reason is None:
            # A node without its volumes is started again.
            self._loop.on_exit(self._holding.pid, lambda code: self._leave())
        return reason

    def _leave(self) -> None:
        self._leaving = True

    def _note(self, text: str) -> None:
        """Into the daemon's log."""
        print(f"node {self._config.node_id}: {text}", file=sys.stderr, flush=True)

    def _start_setup(self) -> None:
        """Volumes and setup task in a child, so that the node answers meanwhile."""
        config = self._config
        refused = self._mount_volumes()
        if refused is not None or self._leaving:
            self._send({"prepared": refused.to_json() if refused else None})
            return
        if not config.setup:
            self._send({"prepared": None})
            return
        ours, theirs = socket.socketpair()
        self._holder = os.fork()
        if self._holder == 0:
            with _dying_loudly():
                setup.hold(
                    config.node_id,
                    config.setup,
                    config.setup_suffix,
                    config.mount_root,
                    config.setup_secrets,
                    config.volumes,
                    theirs,
                    config.view,
                )
        theirs.close()
        self._loop.watch(ours, lambda: self._prepared(ours))
        self._loop.on_exit(self._holder, lambda code: self._holder_ended())

    def _prepared(self, answer: socket.socket) -> None:
        """The holder has handed over the setup's namespaces, has said how it went, or has died before it could."""
        data, descriptors, _, _ = socket.recv_fds(answer, _CHUNK, 2, socket.MSG_CMSG_CLOEXEC)
        if descriptors and self._config.view is not None:
            self._ground = Ground(self._config.view.user, *descriptors)
        messages = self._words.feed(data)
        if data and not messages:
            return
        self._loop.unwatch(answer)
        answer.close()
        if messages:
            self._send(messages[0])
        else:
            reason = Reason(ReasonCode.SETUP_TASK_FAILED, "The node's setup was killed before it ended.")
            self._send({"prepared": reason.to_json()})

    def _holder_ended(self) -> None:
        self._holder = 0

    def _start(self, message: Message) -> None:
        process = self._idle.pop() if self._idle else self._fork_runner()
        process.attempt_id = message["start"]["attempt_id"]
        process.state = message["start"]["directories"]["state"]
        self._busy[process.attempt_id] = process
        process.send({"run": message["start"], **{name: message[name] for name in ("secrets", "private", "token")}})

    def _fork_runner(self) -> RunnerProcess:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            with _dying_loudly():
                signal.set_wakeup_fd(-1)
                serve(theirs.detach(), self._ground)
        theirs.close()
        process = RunnerProcess(pid, ours)
        self._loop.watch(ours, lambda: self._heard(process))
        self._loop.on_exit(pid, lambda code: self._runner_ended(process))
        return process

    def _heard(self, process: RunnerProcess) -> None:
        """A runner that takes another attempt says so; any other is reported when its process has ended."""
        for message in process.receive(self._loop):
            if "holder" in message:
                self._job_holders[process.attempt_id] = message["holder"]
            if message.get("again"):
                attempt_id, state = process.attempt_id, process.state
                del self._busy[attempt_id]
                process.attempt_id = ""
                self._idle.append(process)
                self._when_clean(attempt_id, state)

    def _runner_ended(self, process: RunnerProcess) -> None:
        self._heard(process)  # Its last words, if they have not been read yet.
        self._loop.unwatch(process.control)
        process.control.close()
        if process in self._idle:
            self._idle.remove(process)
        if process.attempt_id:
            del self._busy[process.attempt_id]
            self._when_clean(process.attempt_id, process.state)

    def _when_clean(self, attempt_id: str, state: str) -> None:
        """Report the end once nothing of the attempt lives: normally at once, after a killed runner a little later.

        What holds its volumes ends by itself when all is written.
        """
        if self._end_strays() or self._job_holders.get(attempt_id) in children():
            self._loop.after(_LOOK_AGAIN, lambda: self._when_clean(attempt_id, state))
            return
        if self._job_holders.pop(attempt_id, None):
            self._detach_volumes()
        # Written durably before the runner ended; a runner that was killed left none.
        outcome = read_outcome(state)
        if outcome is not None:
            self._send({"ended": attempt_id, "outcome": outcome.to_dict()})
        else:
            self._remove_container(lambda: self._send({"ended": attempt_id, "outcome": None}))

    def _remove_container(self, then: Callable[[], None]) -> None:
        """What a container wrote whose runner was killed: in a child, since it may be much."""
        folder = Path(self._config.image_places[1])
        if not folder.is_dir():
            then()
            return
        pid = os.fork()
        if pid == 0:
            with _dying_loudly():
                signal.set_wakeup_fd(-1)
                delete(folder)
        self._loop.on_exit(pid, lambda code: then())

    def _detach_volumes(self) -> None:
        """What a holder left that was killed: the node's next job would refuse to clear a directory with mounts."""
        for target in mounted_below(Path(self._config.jobs)):
            detach(target)

    def _end_strays(self) -> bool:
        """Kill what no longer has a runner. Whether anything of the kind is left."""
        runners = {process.pid for process in (*self._busy.values(), *self._idle)}
        strays = children() - runners - {self._holder} - self._holders()
        kill_trees(strays)
        return bool(strays)

    def _holders(self) -> set[int]:
        """Processes that hold volumes, of the cluster's or of jobs that may have ended."""
        return {*self._job_holders.values(), *([self._holding.pid] if self._holding else [])}

    def _end_everything(self) -> None:
        """The node is removed: kill runners, setup and strays, and wait for them; then volumes are written."""
        holders = self._holders()
        if holders & children():
            self._send({"flushing": True})
        while living := children() - holders:
            kill_trees(living)
            for pid in living:
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        if self._holding is not None:
            self._loop.on_exit(self._holding.pid, lambda code: None)
            for reason in self._holding.end():
                self._note(reason.text)
        self._loop.run_until(lambda: not holders & children(), FLUSH_SECONDS)
        while living := children():
            kill_trees(living)
            isolation.reap_all()


@contextmanager
def _dying_loudly() -> Iterator[None]:
    """The rest of a forked process's life: it never goes on where its parent was."""
    status = 1
    try:
        yield
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
