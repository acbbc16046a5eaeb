"""What every engine must do. Each function takes a started Lab and checks one promise of ``engines.protocol``.

``PROMISES`` are kept by all; ``OF_CHOSEN_NODES`` by engines whose nodes the caller asks for and chooses, ``OF_QUEUES``
by engines that queue by themselves (``EngineTraits.queues``). ``deaths`` has what is promised when something dies, and
``tests.engines.labs`` the engines.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.engines.lab import Lab, eventually, living, mark, sleeper, stubborn
from tests.support.machine import why_no_namespaces
from trainshed.engines.protocol import (
    ClusterSpec,
    EngineError,
    EngineView,
    FileServerCondition,
    FileServerSpec,
    GangResult,
    GangStatus,
    NodeSpec,
)
from trainshed.resources.preemption import StopWarning
from trainshed.resources.reasons import Reason, ReasonCode

STOP = Reason(ReasonCode.JOB_TERMINATED, "The test wants it so.")


def mounts(lab: Lab, cluster: ClusterSpec) -> Path:
    """What backs AZ_BATCHAI_MOUNT_ROOT."""
    return lab.mounts(cluster)


async def a_gang_that_exits_with_0_succeeded(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    status = await lab.end_of(await lab.run("true", nodes, cluster))
    assert (status.result, status.exit_code, status.reason) == (GangResult.SUCCEEDED, 0, None)
    assert status.ended_at


async def an_exit_code_is_reported(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    status = await lab.end_of(await lab.run("exit 7", nodes, cluster))
    assert (status.result, status.exit_code) == (GangResult.FAILED, 7)
    assert status.reason is not None and status.reason.code is ReasonCode.JOB_FAILED


async def the_end_is_told_to_the_listener(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    attempt = await lab.run("true", nodes, cluster)
    await lab.end_of(attempt)
    await eventually(lambda: [s.result for s in lab.told if s.attempt_id == attempt] == [GangResult.SUCCEEDED], "told")


async def a_gang_of_two_nodes_prepares_on_both(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(2, cluster)
    root, here = lab.common(cluster)
    status = await lab.end_of(await lab.run("true", nodes, cluster, preparation=f"hostname >> {root}/prepared"))
    assert status.result is GangResult.SUCCEEDED, status
    assert len((here / "prepared").read_text().splitlines()) == 2


async def a_job_knows_all_nodes_of_its_gang(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(2, cluster)
    status = await lab.end_of(await lab.run("echo $AZ_BATCH_HOST_LIST > $AZ_BATCHAI_MOUNT_ROOT/hosts", nodes, cluster))
    assert status.result is GangResult.SUCCEEDED, status
    hosts = (mounts(lab, cluster) / "hosts").read_text().strip().split(",")
    assert len(hosts) == 2 and all(hosts)


async def several_gangs_run_at_once_and_end_each_as_its_own(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(2, cluster)
    names = [mark(), mark()]
    slow = [await lab.run(sleeper(name), nodes[index : index + 1], cluster) for index, name in enumerate(names)]
    await eventually(lambda: all(map(living, names)), "both jobs")
    await lab.engine.stop_gang(slow[0], STOP, 0.1)
    assert (await lab.end_of(slow[0])).result is GangResult.STOPPED
    assert living(names[1])
    await lab.engine.stop_gang(slow[1], STOP, 0.1)
    assert (await lab.end_of(slow[1])).result is GangResult.STOPPED


async def what_is_written_can_be_read_while_it_runs(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    root, here = lab.common(cluster)
    command = f"echo first; until [ -e {root}/go ]; do sleep 0.02; done; echo last"
    attempt = await lab.run(command, nodes, cluster)

    def written() -> list[str]:
        return [path.read_text() for path in (mounts(lab, cluster) / "logs").rglob("stdout.txt")]

    await eventually(lambda: written() == ["first\n"], "the first line")
    (here / "go").touch()
    await lab.end_of(attempt)
    assert written() == ["first\nlast\n"]


async def starting_twice_runs_once(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    root, here = lab.common(cluster)
    spec = lab.gang(f"echo ran >> {root}/runs; exit 3", nodes, cluster)
    await asyncio.gather(lab.engine.start_gang(spec), lab.engine.start_gang(spec))
    await lab.engine.start_gang(spec)
    first = await lab.end_of(spec.attempt_id)
    await lab.engine.start_gang(spec)
    assert await lab.end_of(spec.attempt_id) == first
    # Whatever a third start might have run is waited for: the node runs one after the other.
    await lab.end_of(await lab.run("true", nodes, cluster))
    assert (here / "runs").read_text() == "ran\n"


async def a_gang_without_one_of_its_nodes_starts_nowhere(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    name = mark()
    with pytest.raises(EngineError) as refusal:
        await lab.run(sleeper(name), (*nodes, "no-such-node"), cluster)
    assert "no-such-node" in refusal.value.reason.text
    assert (await lab.engine.view()).gangs == ()
    # The node is free for others.
    assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED
    assert living(name) == []


async def a_busy_node_takes_no_second_gang(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    name = mark()
    first = await lab.run(sleeper(name), nodes, cluster)
    with pytest.raises(EngineError):
        await lab.run("true", nodes, cluster)
    await lab.engine.stop_gang(first, STOP, 0.1)
    assert (await lab.end_of(first)).result is GangResult.STOPPED


async def a_stop_ends_everything_with_its_reason(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    detached, foreground = mark(), mark()
    attempt = await lab.run(f"{stubborn(detached)}; {sleeper(foreground)}", nodes, cluster)
    await eventually(lambda: living(detached) and living(foreground), "both processes")
    await lab.engine.stop_gang(attempt, STOP, 0.3)
    await lab.engine.stop_gang(attempt, STOP, 0.3)
    status = await lab.end_of(attempt)
    # At the moment at which the end is told, nothing lives any more: no waiting here.
    assert living(detached) + living(foreground) == []
    assert status.result is GangResult.STOPPED
    assert status.reason == STOP


async def a_gang_that_was_warned_may_leave_by_itself(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(2, cluster)
    root, here = lab.common(cluster)
    command = (
        f"trap 'cp $TRAINSHED_PREEMPTION_NOTICE $AZ_BATCHAI_MOUNT_ROOT/notice; exit 3' USR2; touch {root}/up; "
        "while :; do sleep 0.02; done"
    )
    attempt = await lab.run(command, nodes, cluster)
    await eventually((here / "up").exists, "the job")
    await lab.engine.stop_gang(attempt, STOP, 0.3, StopWarning("SIGUSR2", 600.0))
    await lab.engine.stop_gang(attempt, STOP, 0.3, StopWarning("SIGUSR2", 600.0))
    status = await lab.end_of(attempt)
    assert (status.result, status.exit_code, status.reason) == (GangResult.STOPPED, 3, STOP)
    assert STOP.text in (mounts(lab, cluster) / "notice").read_text()


async def a_gang_that_was_warned_is_stopped_when_its_time_is_up(lab: Lab) -> None:
    """Or sooner, when that is asked for."""
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    for warnings in ([0.3], [600.0, None]):
        name = mark()
        attempt = await lab.run(sleeper(name), nodes, cluster)
        await eventually(lambda name=name: living(name), "the job")
        for seconds in warnings:
            warning = None if seconds is None else StopWarning("SIGUSR2", seconds)
            await lab.engine.stop_gang(attempt, STOP, 0.3, warning)
        status = await lab.end_of(attempt)
        assert (status.result, status.reason, living(name)) == (GangResult.STOPPED, STOP, [])


async def what_a_finished_job_left_behind_is_gone(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    name = mark()
    started = "$AZ_BATCHAI_MOUNT_ROOT/started"
    command = f"{stubborn(name)}; until pgrep -f '^{name}' > {started}; do sleep 0.02; done"
    attempt = await lab.run(command, nodes, cluster)
    assert (await lab.end_of(attempt)).result is GangResult.SUCCEEDED
    assert (mounts(lab, cluster) / "started").read_text().strip()
    assert living(name) == []


async def stopping_what_is_unknown_or_over_does_nothing(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    attempt = await lab.run("true", nodes, cluster)
    status = await lab.end_of(attempt)
    await lab.engine.stop_gang(attempt, STOP, 0.1)
    await lab.engine.stop_gang("no-such-attempt", STOP, 0.1)
    assert await lab.end_of(attempt) == status


async def outcomes_are_kept_until_forgotten(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    attempt = await lab.run("true", nodes, cluster)
    await lab.end_of(attempt)
    await lab.engine.forget_gang((attempt, "no-such-attempt", attempt))
    assert (await lab.engine.view()).gangs == ()
    await lab.engine.forget_gang((attempt,))


async def a_gang_that_is_alive_is_not_forgotten(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    attempt = await lab.run(sleeper(mark()), nodes, cluster)
    await lab.engine.forget_gang((attempt,))
    assert [gang.attempt_id for gang in (await lab.engine.view()).gangs] == [attempt]
    await lab.engine.stop_gang(attempt, STOP, 0.1)
    await lab.end_of(attempt)


async def a_file_server_is_in_the_view_until_it_is_removed(lab: Lab) -> None:
    """An engine without file servers says so at once; one that cannot have them here says why."""
    uid = str(uuid.uuid4())
    server = FileServerSpec(uid, "fs", 2**30, "demo")
    try:
        await lab.engine.ensure_file_server(server)
    except EngineError as refusal:
        assert refusal.reason.code is ReasonCode.FILE_SERVER_FAILED
        assert (await lab.engine.view()).file_servers == ()
        return
    await lab.engine.ensure_file_server(server)
    settled = {FileServerCondition.SERVING, FileServerCondition.FAILED}
    await lab.until(lambda view: {s.condition for s in view.file_servers} <= settled or None, "it serves")
    await lab.restart_service()
    (status,) = (await lab.engine.view()).file_servers
    assert status.uid == uid and status.address
    assert status.condition is FileServerCondition.SERVING or (why_no_namespaces() and status.reason)
    await lab.engine.remove_file_server(uid)
    await lab.engine.remove_file_server("no-such-server")
    await lab.until(lambda view: view.file_servers == () or None, "its end")


async def asking_twice_for_a_node_makes_one(lab: Lab) -> None:
    cluster = lab.cluster()
    node_id = f"node-{uuid.uuid4().hex[:6]}"
    spec = NodeSpec(node_id, 0)
    await asyncio.gather(lab.engine.add_nodes(cluster, (spec,)), lab.engine.add_nodes(cluster, (spec,)))
    await lab.engine.ensure_cluster(cluster)
    await lab.node(node_id)
    await lab.engine.add_nodes(cluster, (spec,))
    nodes = (await lab.engine.view()).nodes
    assert [(node.node_id, node.boot) for node in nodes] == [(node_id, 1)]


async def nodes_differ_in_name_and_address(lab: Lab) -> None:
    first, second = lab.cluster("First Cluster"), lab.cluster("second")
    await lab.add_nodes(2, first)
    await lab.add_nodes(2, second)
    nodes = (await lab.engine.view()).nodes
    assert len({node.address for node in nodes}) == 4
    assert len({node.host_name for node in nodes}) == 4


async def removing_a_node_ends_what_runs_on_it(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(2, cluster)
    name = mark()
    attempt = await lab.run(f"{stubborn(name)}; sleep 1000", nodes[:1], cluster)
    await eventually(lambda: living(name), "the job")
    await lab.engine.remove_nodes((nodes[0], "no-such-node"))

    def gone(view: EngineView) -> bool | None:
        return True if nodes[0] not in {node.node_id for node in view.nodes} else None

    await lab.until(gone, "the node is gone")
    assert living(name) == []
    status = await lab.end_of(attempt)
    assert status.result in (GangResult.STOPPED, GangResult.LOST)
    # The other node goes on.
    assert (await lab.end_of(await lab.run("true", nodes[1:], cluster))).result is GangResult.SUCCEEDED


async def a_cluster_keeps_its_files_when_its_nodes_are_gone(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    await lab.end_of(await lab.run("echo kept > $AZ_BATCHAI_MOUNT_ROOT/model", nodes, cluster))
    if not lab.queues:
        await lab.engine.remove_nodes(nodes)
        await lab.until(lambda view: True if not view.nodes else None, "no node")
    assert (await lab.engine.view()).clusters == (cluster.uid,)
    await lab.engine.remove_cluster(cluster.uid)
    await lab.engine.remove_cluster(cluster.uid)
    assert (await lab.engine.view()).clusters == ()
    assert (mounts(lab, cluster) / "model").read_text() == "kept\n"


async def the_wall_clock_limit_ends_a_gang(lab: Lab) -> None:
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    status = await lab.end_of(await lab.run("sleep 1000", nodes, cluster, wall_clock_seconds=0.3))
    assert status.result is GangResult.FAILED
    assert status.reason is not None and status.reason.code is ReasonCode.JOB_WALL_CLOCK_EXCEEDED


async def too_many_nodes_are_refused_with_the_numbers(lab: Lab) -> None:
    cluster = lab.cluster(cpus=100_000)
    with pytest.raises(EngineError) as refusal:
        await lab.engine.add_nodes(cluster, (NodeSpec("a", 0), NodeSpec("b", 1)))
    assert refusal.value.reason.code is ReasonCode.ALLOCATION_FAILED
    assert "100000" in refusal.value.reason.text
    assert (await lab.engine.view()).nodes == ()


async def what_does_not_fit_now_waits_with_a_reason(lab: Lab) -> None:
    """Where the engine queues: as many gangs as there are nodes and one more."""
    cluster = lab.cluster()
    everything = await _all_nodes(lab, cluster)
    names = [mark() for _ in everything]
    running = [await lab.run(sleeper(name), everything[:1], cluster) for name in names]
    await eventually(lambda: all(map(living, names)), "a job on every node")
    late = mark()
    waiting = await lab.run(sleeper(late), everything[:1], cluster)
    status = await lab.until(lambda view: _waits(view, waiting), "why it waits")
    assert status.waiting is not None and status.waiting.text and status.result is None and status.started_at is None
    await lab.engine.stop_gang(running[0], STOP, 0.1)
    started = await lab.until(lambda view: _runs(view, waiting), "its start")
    assert started.waiting is None and len(started.hosts) == 1 and started.hosts[0] in everything
    await eventually(lambda: living(late), "the job")
    for attempt in (*running, waiting):
        await lab.engine.stop_gang(attempt, STOP, 0.1)
    for attempt in (*running, waiting):
        assert (await lab.end_of(attempt)).result is GangResult.STOPPED
    assert living(late) == []


async def a_gang_that_waits_can_be_stopped(lab: Lab) -> None:
    """Where the engine queues: one that is wider than what there is."""
    cluster = lab.cluster()
    everything = await _all_nodes(lab, cluster)
    root, here = lab.common(cluster)
    wide = await lab.run(f"touch {root}/ran", (*everything, "one-more"), cluster)
    await lab.until(lambda view: _waits(view, wide), "why it waits")
    await lab.restart_service()
    await lab.until(lambda view: _waits(view, wide), "why it waits, after a restart")
    await lab.engine.stop_gang(wide, STOP, 0.1)
    status = await lab.end_of(wide)
    assert (status.result, status.reason) == (GangResult.STOPPED, STOP)
    assert not (here / "ran").exists()


async def all_that_is_handed_over_runs_once(lab: Lab) -> None:
    """Where the engine queues: more gangs than nodes, each started twice as if an answer was lost."""
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    root, here = lab.common(cluster)
    commands = [f"echo {number:02} >> {root}/ran" for number in range(12)]
    gangs = [lab.gang(command, nodes, cluster) for command in commands]
    for gang in gangs:
        await lab.engine.start_gang(gang)
    await lab.restart_service()
    for gang in gangs:
        await lab.engine.start_gang(gang)
    for gang in gangs:
        status = await lab.end_of(gang.attempt_id)
        assert status.result is GangResult.SUCCEEDED and status.started_at is not None, status
    assert sorted((here / "ran").read_text().split()) == [f"{number:02}" for number in range(12)]


async def _all_nodes(lab: Lab, cluster: ClusterSpec) -> tuple[str, ...]:
    await lab.add_nodes(1, cluster)
    view = await lab.engine.view()
    return await lab.add_nodes(sum(1 for node in view.nodes if node.cluster_uid == cluster.uid), cluster)


def _waits(view: EngineView, attempt_id: str) -> GangStatus | None:
    return next((gang for gang in view.gangs if gang.attempt_id == attempt_id and gang.waiting is not None), None)


def _runs(view: EngineView, attempt_id: str) -> GangStatus | None:
    return next((gang for gang in view.gangs if gang.attempt_id == attempt_id and gang.started_at is not None), None)


Promise = Callable[[Lab], Awaitable[None]]

PROMISES: tuple[Promise, ...] = (
    a_gang_that_exits_with_0_succeeded,
    an_exit_code_is_reported,
    the_end_is_told_to_the_listener,
    a_gang_of_two_nodes_prepares_on_both,
    a_job_knows_all_nodes_of_its_gang,
    several_gangs_run_at_once_and_end_each_as_its_own,
    what_is_written_can_be_read_while_it_runs,
    starting_twice_runs_once,
    a_stop_ends_everything_with_its_reason,
    a_gang_that_was_warned_may_leave_by_itself,
    a_gang_that_was_warned_is_stopped_when_its_time_is_up,
    what_a_finished_job_left_behind_is_gone,
    stopping_what_is_unknown_or_over_does_nothing,
    outcomes_are_kept_until_forgotten,
    a_gang_that_is_alive_is_not_forgotten,
    a_file_server_is_in_the_view_until_it_is_removed,
    a_cluster_keeps_its_files_when_its_nodes_are_gone,
    the_wall_clock_limit_ends_a_gang,
)

OF_CHOSEN_NODES: tuple[Promise, ...] = (
    a_gang_without_one_of_its_nodes_starts_nowhere,
    a_busy_node_takes_no_second_gang,
    asking_twice_for_a_node_makes_one,
    nodes_differ_in_name_and_address,
    removing_a_node_ends_what_runs_on_it,
    too_many_nodes_are_refused_with_the_numbers,
)

OF_QUEUES: tuple[Promise, ...] = (
    what_does_not_fit_now_waits_with_a_reason,
    a_gang_that_waits_can_be_stopped,
    all_that_is_handed_over_runs_once,
)

#: Those that leave cluster and nodes as they found them: nodes of an earlier test will do.
ON_ANY_NODES = frozenset(
    {
        *(promise for promise in PROMISES if promise is not a_cluster_keeps_its_files_when_its_nodes_are_gone),
        a_gang_without_one_of_its_nodes_starts_nowhere,
        a_busy_node_takes_no_second_gang,
    }
)
