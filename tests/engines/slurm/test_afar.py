"""Nodes that share no file system with the service: its directory is hidden from them, and each has its own disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.engines.lab import Lab, eventually, living, mark, sleeper
from tests.engines.slurm.laboratory import PATIENCE
from tests.engines.slurm.slurm_site import Site
from tests.engines.slurm.test_losses import next_attempt, running
from trainshed.engines.protocol import EngineView, GangResult, GangStatus
from trainshed.engines.slurm.engine import SlurmEngine
from trainshed.engines.slurm.settings import SlurmSettings
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.runner.code import blob_path

pytestmark = pytest.mark.slow

STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")
Afar = Callable[..., None]


@pytest.fixture
def afar(slurm_site: Site) -> Afar:
    """Runs a coroutine with an engine whose nodes reach it over HTTPS alone."""
    if not slurm_site.apart:
        pytest.skip("nodes cannot be given mount namespaces of their own here")

    def run(body: Callable[[Lab], Awaitable[None]], gate: Gate | None = None) -> None:
        home = slurm_site.hidden / uuid.uuid4().hex
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        given = {
            "report_to": f"127.0.0.1:{port}",
            "node_directory": str(slurm_site.own),
            "python": os.path.realpath(sys.executable),
            "lease": "8",
        }
        if gate is not None:
            gate.target, given["listen"] = port, f"127.0.0.1:{port}"
            given["report_to"] = f"127.0.0.1:{gate.port}"
        settings = SlurmSettings.parse(given)

        def make() -> SlurmEngine:
            return SlurmEngine("hpc", settings, environment=slurm_site.environment, home=str(home))

        async def whole() -> None:
            lab = Lab(make, patience=PATIENCE)
            try:
                await lab.start()
                await body(lab)
            finally:
                await lab.engine.close()

        try:
            asyncio.run(whole())
        finally:
            slurm_site.clear()
        kept = {"setups", "runner"}
        for name in slurm_site.names:
            left = [path for path in slurm_site.own_of(name).glob("*/*") if path.name not in kept]
            assert left == [], f"left on {name}: {left}"

    return run


def mounts(lab: Lab, uid: str) -> Path:
    root = lab.engine.mount_root(uid)
    assert root is not None
    return Path(root)


def test_a_job_gets_its_code_and_secrets_and_its_logs_and_outputs_come_back(afar: Afar, slurm_site: Site) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        secret = f"s3cr3t-{mark()}"
        command = (
            "echo ${#KEY}; echo to stderr >&2; mkdir -p $AZ_BATCHAI_MOUNT_ROOT/out/deep; "
            "head -c 9000000 /dev/zero | tr '\\0' x > $AZ_BATCHAI_MOUNT_ROOT/out/deep/big; "
            "echo small > $AZ_BATCHAI_MOUNT_ROOT/out/small; ln -s /etc/passwd $AZ_BATCHAI_MOUNT_ROOT/out/link; "
            f"ls {slurm_site.hidden} | wc -l; env | grep -c TICKET_TOKEN"
        )
        gang = lab.gang(command, nodes, cluster, secrets={"KEY": secret})
        gang.properties["secrets"] = [{"name": "KEY"}]
        await lab.engine.start_gang(gang)
        ended = await lab.end_of(gang.attempt_id)
        folder = mounts(lab, cluster.uid)
        (stdout,) = folder.rglob("stdout.txt")
        assert stdout.read_text().split() == [str(len(secret)), "0", "0"], ended
        assert (stdout.parent / "stderr.txt").read_text() == "to stderr\n"
        assert "ended with exit code 1" in (stdout.parent / "execution.log").read_text()
        assert (ended.result, ended.exit_code) == (GangResult.FAILED, 1)  # grep found nothing
        assert (folder / "out/deep/big").stat().st_size == 9_000_000
        assert (folder / "out/small").read_text() == "small\n"
        assert not (folder / "out/link").exists()

    afar(body)


def test_two_nodes_with_code_are_one_gang_and_stop_when_told(afar: Afar, tmp_path: Path) -> None:
    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        name = mark()
        store, manifest = code_of(tmp_path, {"train.sh": f"echo from code; {sleeper(name)}", "data/x": "x"})
        prepare = "echo prepared > $AZ_BATCHAI_MOUNT_ROOT/by-$(hostname)"
        gang = lab.gang("cat data/x; bash train.sh", nodes, cluster, preparation=prepare)
        gang = replace(gang, code_store=store, code_manifest=manifest)
        await lab.engine.start_gang(gang)
        started = await running(lab, gang.attempt_id)
        assert len(started.hosts) == 2
        folder = mounts(lab, cluster.uid)
        # Logs are here while the job runs.
        await eventually(lambda: [p for p in folder.rglob("stdout.txt") if "from code" in p.read_text()], "its log")
        assert len(living(name)) == 1
        await lab.engine.stop_gang(gang.attempt_id, STOP, 0.5)
        ended = await lab.end_of(gang.attempt_id)
        assert (ended.result, ended.reason) == (GangResult.STOPPED, STOP)
        assert living(name) == []
        hosts = {host.partition("-")[2] for host in started.hosts}
        await eventually(lambda: {p.name for p in folder.glob("by-*")} == {f"by-{h}" for h in hosts}, "both outputs")

    afar(body)


def code_of(folder: Path, files: dict[str, str]) -> tuple[str, dict[str, dict[str, object]]]:
    manifest: dict[str, dict[str, object]] = {}
    for path, text in files.items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        blob = Path(blob_path(str(folder), digest))
        blob.parent.mkdir(exist_ok=True)
        blob.write_text(text)
        manifest[path] = {"sha256": digest, "mode": 0o644}
    return str(folder), manifest


def test_a_job_goes_on_while_the_service_is_away_and_all_of_it_is_told_later(afar: Afar, slurm_site: Site) -> None:
    """Away for longer than the lease: Slurm says that the run is the present one."""

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(1, cluster)
        gang = lab.gang("echo one; sleep 11; echo two; echo kept > $AZ_BATCHAI_MOUNT_ROOT/kept", nodes, cluster)
        await lab.engine.start_gang(gang)
        await running(lab, gang.attempt_id)
        folder = mounts(lab, cluster.uid)
        await eventually(lambda: [p for p in folder.rglob("stdout.txt") if p.read_text()], "its log")
        await lab.engine.close()
        kept = [slurm_site.own_of(name) for name in slurm_site.names]
        await eventually(lambda: [path for own in kept for path in own.glob("*/*-afar/mounts/kept")], "its last file")
        await lab.restart_service()
        ended = await lab.end_of(gang.attempt_id)
        assert ended.result is GangResult.SUCCEEDED, ended
        (stdout,) = folder.rglob("stdout.txt")
        assert stdout.read_text() == "one\ntwo\n"
        assert (folder / "kept").read_text() == "kept\n"

    afar(body)


def test_what_a_dead_node_ran_runs_once_more_elsewhere_and_never_twice_at_once(afar: Afar, slurm_site: Site) -> None:
    """A gang whose processes outlive a slurmd: the service tells them to end. A single one on a node that is cut off
    from the service too: it ends when its lease is over, since Slurm says that it is not the present run.
    """

    async def body(lab: Lab) -> None:
        cluster = lab.cluster()
        nodes = await lab.add_nodes(2, cluster)
        names = {"wide": mark(), "single": mark()}
        command = "echo attempt $TRAINSHED_ATTEMPT; [ $TRAINSHED_ATTEMPT = 2 ] || {}"
        wide = lab.gang(command.format(sleeper(names["wide"])), nodes, cluster)
        single = lab.gang(command.format(sleeper(names["single"])), nodes[:1], cluster)
        died = []
        for gang in (wide, single):
            await lab.engine.start_gang(gang)
            died.append((await running(lab, gang.attempt_id)).hosts[0].partition("-")[2])
        await eventually(lambda: all(map(living, names.values())), "both jobs")
        logs = mounts(lab, cluster.uid)
        await eventually(lambda: sum("1" in p.read_text() for p in logs.rglob("stdout.txt")) == 2, "both logs")
        gate.cut_off(died[1])
        for node in died:
            slurm_site.kill(node)
        for gang in (wide, single):
            status = await lab.end_of(gang.attempt_id)
            assert status.result is GangResult.LOST and status.again, status
            await lab.engine.start_gang(next_attempt(gang))
        for gang, name in ((wide, names["wide"]), (single, names["single"])):
            second = next_attempt(gang)
            await lab.until(partial(begun, second.attempt_id), "its second run")
            # The second run began when nothing of the first was left.
            assert living(name) == []
            status = await lab.end_of(second.attempt_id)
            assert status.result is GangResult.SUCCEEDED, status
            assert not {host.partition("-")[2] for host in status.hosts} & set(died)
        for stdout in logs.rglob("stdout.txt"):
            assert stdout.read_text() == "attempt 1\nattempt 2\n"

    with Gate() as gate:
        afar(body, gate=gate)


def begun(attempt_id: str, view: EngineView) -> GangStatus | None:
    return next((gang for gang in view.gangs if gang.attempt_id == attempt_id and gang.started_at), None)


class Gate:
    """Passes connections on to the engine, but those of nodes that it is to cut off. Runs in a thread of its own."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.target = 0
        self._cut: set[str] = set()
        self._open: list[tuple[str, socket.socket, socket.socket]] = []

    def __enter__(self) -> Gate:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.cut_off(*{name for name, _, _ in self._open})

    def cut_off(self, *names: str) -> None:
        self._cut.update(names)
        for name, *ends in self._open:
            if name in names:
                for end in ends:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                theirs, address = self._listening.accept()
                name = self._node_of(address[1])
                try:
                    ours = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    theirs.close()
                    continue
                self._open.append((name, theirs, ours))
                if name in self._cut:
                    self.cut_off(name)
                for source, sink in ((theirs, ours), (ours, theirs)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _node_of(self, port: int) -> str:
        """Whose process has this end of a connection."""
        for one in psutil.net_connections("tcp4"):
            if one.laddr and one.laddr.port == port and one.pid:
                with suppress(OSError):
                    variables = Path(f"/proc/{one.pid}/environ").read_bytes().split(b"\0")
                    found = [v.partition(b"=")[2].decode() for v in variables if v.startswith(b"SLURMD_NODENAME=")]
                    return found[0] if found else ""
        return ""

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
