"""What every engine must do when nodes, the engine or the service die: the conformance suite's second part.

``DEATHS`` can be shared with other tests of a laboratory; ``ENDINGS`` kill the engine itself.
"""

from __future__ import annotations

import os
import signal
import uuid
from dataclasses import replace

import pytest

from tests.engines.conformance import STOP, Promise
from tests.engines.lab import Lab, eventually, living, mark, sleeper, stubborn
from tests.engines.processes import holder_of
from tests.support.machine import why_no_namespaces
from trainshed.engines.protocol import EngineView, GangResult, GangStatus, NodeSpec
from trainshed.resources.reasons import ReasonCode


async def what_was_lost_with_a_node_is_gone_before_it_runs_again(lab: Lab) -> None:
    """The first node of a gang dies, where the job itself runs."""
    cluster = lab.cluster()
    nodes = await lab.add_nodes(2, cluster)
    first, left = mark(), mark()
    root, here = lab.common(cluster)
    prepare = f"[ $TRAINSHED_ATTEMPT = 2 ] || {{ {stubborn(left)}; }}"
    command = f"echo $TRAINSHED_ATTEMPT >> {root}/runs; [ $TRAINSHED_ATTEMPT = 2 ] || {sleeper(first)}"
    gang = lab.gang(command, nodes, cluster, preparation=prepare)
    await lab.engine.start_gang(gang)
    await eventually(lambda: len(living(first)) == 1 and len(living(left)) == 2, "the job on both nodes")
    status = await lab.until(lambda view: _status(view, gang.attempt_id), "the gang")
    victim = (gang.node_ids or status.hosts)[0]
    await lab.kill_node(victim, living(first)[0])
    status = await lab.end_of(gang.attempt_id)
    assert status.result is GangResult.LOST
    assert status.reason is not None and status.reason.code is ReasonCode.NODE_LOST, status.reason
    assert status.again == lab.queues
    # What an engine has queued again starts only when nothing of the former run is left; others say so now.
    assert status.again or living(first) + living(left) == []
    await lab.restart_service()
    assert await lab.end_of(gang.attempt_id) == status
    await lab.engine.forget_gang((gang.attempt_id,))
    nodes = await lab.whole(nodes, cluster)
    second = replace(gang, attempt_id=str(uuid.uuid4()), attempt_number=2, node_ids=() if lab.queues else nodes)
    await lab.engine.start_gang(second)
    status = await lab.end_of(second.attempt_id)
    assert status.result is GangResult.SUCCEEDED, status
    assert not lab.queues or victim not in status.hosts
    assert living(first) + living(left) == []
    assert (here / "runs").read_text().split() == ["1", "2"]


async def a_job_whose_namespaces_are_ended_by_others_is_lost(lab: Lab) -> None:
    """By a kill of the process that holds them: the job's end is none of its own."""
    if why := why_no_namespaces():
        pytest.skip(f"jobs cannot have namespaces here: {why}")
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    detached, foreground = mark(), mark()
    attempt = await lab.run(f"{stubborn(detached)}; {sleeper(foreground)}", nodes, cluster)
    await eventually(lambda: living(foreground) and living(detached), "the job")
    os.kill(holder_of(living(foreground)[0]), signal.SIGKILL)
    status = await lab.end_of(attempt)
    assert living(foreground) + living(detached) == []
    assert (status.result, status.exit_code) == (GangResult.LOST, None), status
    assert status.reason is not None and status.reason.code is ReasonCode.RUNNER_LOST, status.reason
    # The node itself is whole.
    assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED


async def a_service_that_is_restarted_at_every_stage_finds_everything_again(lab: Lab) -> None:
    """Each call whose answer it may have missed is made again."""
    cluster = lab.cluster()
    specs = (NodeSpec(f"node-0-{uuid.uuid4().hex[:6]}", 0), NodeSpec(f"node-1-{uuid.uuid4().hex[:6]}", 1))
    nodes: tuple[str, ...]
    if lab.queues:
        nodes = await lab.add_nodes(2, cluster)
    else:
        await lab.engine.add_nodes(cluster, specs)
        await lab.restart_service()
        await lab.engine.add_nodes(cluster, specs)
        nodes = tuple([(await lab.node(spec.node_id)).node_id for spec in specs])
    over = await lab.run("exit 4", nodes[:1], cluster)
    outcome = await lab.end_of(over)
    runs, ends = mark(), mark()
    root, here = lab.common(cluster)
    ending = await lab.run(f"trap '' TERM; (exec -a {ends} sleep 1000); sleep 1000", nodes[:1], cluster)
    await eventually(lambda: living(ends), "the job that is to end")
    command = (
        f"echo ran >> {root}/runs; (exec -a {runs} sleep 1000) & until [ -e {root}/go ]; do sleep 0.02; done; exit 5"
    )
    starting = lab.gang(command, nodes[1:], cluster)

    # One starts and another ends.
    await lab.engine.start_gang(starting)
    await lab.engine.stop_gang(ending, STOP, 1.0)
    await lab.restart_service()
    await lab.engine.start_gang(starting)
    await lab.engine.stop_gang(ending, STOP, 1.0)
    assert await lab.end_of(over) == outcome
    status = await lab.end_of(ending)
    assert (status.result, status.reason, living(ends)) == (GangResult.STOPPED, STOP, [])
    await eventually(lambda: living(runs), "the job that was started")

    # One runs.
    before = living(runs)
    await lab.restart_service()
    status = await lab.until(lambda view: _status(view, starting.attempt_id), "the running gang")
    assert (status.result, living(runs)) == (None, before)
    (here / "go").touch()
    assert (await lab.end_of(starting.attempt_id)).exit_code == 5
    assert (here / "runs").read_text() == "ran\n"

    # All is over and forgotten; the nodes were never started anew.
    await lab.engine.forget_gang((over, ending, starting.attempt_id))
    await lab.restart_service()
    view = await lab.until(lambda view: view, "the engine")
    assert view.gangs == ()
    assert lab.queues or {node.node_id: node.boot for node in view.nodes} == dict.fromkeys(nodes, 1)


async def an_engine_that_is_killed_tells_the_truth_afterwards(lab: Lab) -> None:
    """What ran goes on, or is lost and nothing of it lives; what had ended is known; and the engine is of use again."""
    cluster = lab.cluster()
    nodes = await lab.add_nodes(1, cluster)
    over = await lab.run("exit 4", nodes, cluster)
    outcome = await lab.end_of(over)
    runs, left = mark(), mark()
    root, here = lab.common(cluster)
    command = (
        f"echo ran >> {root}/runs; {stubborn(left)}; (exec -a {runs} sleep 1000) & "
        f"until [ -e {root}/go ]; do sleep 0.02; done; exit 5"
    )
    attempt = await lab.run(command, nodes, cluster)
    await eventually(lambda: living(runs) and living(left), "the job")
    await lab.kill_engine()
    assert await lab.end_of(over) == outcome
    (here / "go").touch()
    status = await lab.end_of(attempt)
    assert living(runs) + living(left) == []
    if status.result is GangResult.LOST:
        # No node's fault.
        assert status.reason is not None and status.reason.code is ReasonCode.NODE_DAEMON_LOST, status.reason
    else:
        assert status.exit_code == 5
    nodes = await lab.whole(nodes, cluster)
    assert (await lab.end_of(await lab.run("true", nodes, cluster))).result is GangResult.SUCCEEDED
    assert (here / "runs").read_text() == "ran\n"


def _status(view: EngineView, attempt_id: str) -> GangStatus | None:
    return next((gang for gang in view.gangs if gang.attempt_id == attempt_id), None)


DEATHS: tuple[Promise, ...] = (
    what_was_lost_with_a_node_is_gone_before_it_runs_again,
    a_job_whose_namespaces_are_ended_by_others_is_lost,
    a_service_that_is_restarted_at_every_stage_finds_everything_again,
)

ENDINGS: tuple[Promise, ...] = (an_engine_that_is_killed_tells_the_truth_afterwards,)
