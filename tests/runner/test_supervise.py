"""When an attempt is over, and who is to blame."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainshed.runner.failure import AttemptEnded
from trainshed.runner.spec import HostSpec, Outcome
from trainshed.runner.supervise import LAST_SECONDS, LAUNCHER_SECONDS, WORDS_SECONDS, Supervisor, Wait
from trainshed.toolkits.launch import LaunchPlan, Process

HOSTS = (HostSpec("n0", "node-0", "127.0.77.4"), HostSpec("n1", "node-1", "127.0.77.5"))
MPI = LaunchPlan((Process(0, "master", 0, "mpirun"),), slots=(1, 1), mpi_ranks=2)
TORCHRUN = LaunchPlan(
    (Process(0, "agent", 0, "", stderr="stderr-0.txt"), Process(1, "agent", 1, "", stderr="stderr-1.txt")),
    slots=(1, 1),
    agent_ranks=2,
    rank_stderr="ranks/stderr-{}.txt",
)


def seconds(wait: Wait | None) -> float | None:
    return None if wait is None else wait.seconds


def end_of(call: object, *arguments: object) -> Outcome:
    with pytest.raises(AttemptEnded) as caught:
        call(*arguments)
    return caught.value.outcome


def test_waits_for_all_essential_processes() -> None:
    plan = LaunchPlan(
        (Process(0, "worker", 0, ""), Process(1, "worker", 1, ""), Process(0, "ps", 0, "", essential=False))
    )
    supervisor = Supervisor(plan, HOSTS)
    assert supervisor.process_ended(1, "worker", 1, 0) is None
    assert end_of(supervisor.process_ended, 0, "worker", 0, 0) == Outcome("succeeded", 0)


def test_a_server_that_fails_fails_the_job() -> None:
    plan = LaunchPlan((Process(0, "worker", 0, ""), Process(1, "ps", 0, "", essential=False)))
    outcome = end_of(Supervisor(plan, HOSTS).process_ended, 1, "ps", 0, 4)
    assert (outcome.result, outcome.exit_code) == ("failed", 4)
    assert outcome.reason is not None
    where = {"process": "ps 0", "node": "node-1", "nodeId": "n1", "stdErrFile": "stderr.txt"}
    assert outcome.reason["details"] == where


@pytest.mark.parametrize("launcher_first", [True, False])
def test_mpi_succeeds_when_launcher_and_all_ranks_say_so(launcher_first: bool) -> None:
    supervisor = Supervisor(MPI, HOSTS)
    assert supervisor.rank_ended(0, 0, 0) is None
    if launcher_first:
        assert seconds(supervisor.process_ended(0, "master", 0, 0)) == WORDS_SECONDS
        outcome = end_of(supervisor.rank_ended, 1, 1, 0)
    else:
        assert seconds(supervisor.rank_ended(1, 1, 0)) == LAST_SECONDS
        outcome = end_of(supervisor.process_ended, 0, "master", 0, 0)
    assert outcome == Outcome("succeeded", 0)


def test_launcher_that_lies_is_not_believed() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(0, 0, 0)
    supervisor.process_ended(0, "master", 0, 0)
    outcome = end_of(supervisor.time_is_up)
    assert outcome.result == "failed"
    assert outcome.reason is not None
    missing = {"ranks": "1", "nodes": "node-1", "stdErrFile": "stderr.txt"}
    assert (outcome.reason["code"], outcome.reason["details"]) == ("JobRankFailed", missing)


def test_launcher_that_hangs_is_not_waited_for() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    assert seconds(supervisor.rank_ended(1, 1, 7)) == LAUNCHER_SECONDS
    outcome = end_of(supervisor.time_is_up)
    assert (outcome.result, outcome.exit_code) == ("failed", 7)
    assert outcome.reason is not None
    assert outcome.reason["details"]["rank"] == "1"


def test_the_rank_that_failed_is_blamed_and_not_those_that_were_killed() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(0, 0, 143)
    assert seconds(supervisor.process_ended(0, "master", 0, 1)) == LAUNCHER_SECONDS
    assert end_of(supervisor.rank_ended, 1, 1, 7).exit_code == 7


def test_a_rank_that_was_killed_is_blamed_and_not_those_that_followed() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(1, 1, 137)
    supervisor.rank_ended(0, 0, 1)
    outcome = end_of(supervisor.time_is_up)
    assert outcome.exit_code == 137
    assert outcome.reason is not None
    assert outcome.reason["text"].endswith(": rank 1 on node-1 was ended by SIGKILL (137)")


@pytest.mark.parametrize("cause", [1, 3, 134, 137])
def test_a_rank_whose_connection_broke_may_speak_first_and_is_not_blamed(cause: int) -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(0, 0, 14)
    supervisor.rank_ended(1, 1, cause)
    assert end_of(supervisor.time_is_up).exit_code == cause


def test_the_launcher_is_blamed_where_ranks_only_followed() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(0, 0, 143, asked=True)
    supervisor.process_ended(0, "master", 0, 137)
    outcome = end_of(supervisor.time_is_up)
    assert outcome.reason is not None
    assert outcome.reason["text"].endswith(": mpirun on node-0 was ended by SIGKILL (137)")


def test_a_rank_that_was_asked_to_end_is_not_blamed() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(0, 0, 1, asked=True)
    supervisor.rank_ended(1, 1, 3)
    outcome = end_of(supervisor.time_is_up)
    assert outcome.exit_code == 3
    assert outcome.reason is not None
    assert outcome.reason["text"] == "Job failed with non-zero exit code: rank 1 on node-1 exited with 3"


def test_a_daemon_that_died_with_its_ranks_ends_the_job() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(0, 0, 0)
    assert seconds(supervisor.daemon_ended(1, 137)) == WORDS_SECONDS
    outcome = end_of(supervisor.time_is_up)
    assert outcome.reason is not None
    assert outcome.reason["text"].startswith("MPI's daemon on node-1 was ended by SIGKILL (137): 1 of 2 ranks never")


def test_a_daemon_that_failed_after_its_ranks_ended_well_changes_nothing() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    for rank in range(2):
        supervisor.rank_ended(rank, rank, 0)
    supervisor.daemon_ended(1, 143)
    supervisor.time_is_up()
    assert end_of(supervisor.process_ended, 0, "master", 0, 0) == Outcome("succeeded", 0)


def test_ranks_with_logs_of_their_own_name_them() -> None:
    supervisor = Supervisor(replace(MPI, rank_stderr="stderr-{}.txt"), HOSTS)
    supervisor.rank_ended(1, 1, 3)
    outcome = end_of(supervisor.time_is_up)
    assert outcome.reason is not None
    assert outcome.reason["details"]["stdErrFile"] == "stderr-1.txt"


def test_a_launcher_that_fails_alone_is_blamed() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.process_ended(0, "master", 0, 213)
    assert end_of(supervisor.time_is_up).exit_code == 213


def test_a_launcher_that_hangs_after_its_ranks_ended_well_is_not_waited_for() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    assert supervisor.rank_ended(0, 0, 0) is None
    wait = supervisor.rank_ended(1, 1, 0)
    assert wait is not None
    assert end_of(wait.then) == Outcome("succeeded", 0)


def test_a_launcher_that_hangs_is_waited_for_while_a_rank_runs() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(1, 1, 0)
    daemon = supervisor.daemon_ended(1, 0)
    assert daemon is not None
    daemon.then()  # Its rank said 0; the other's node is not its business.


def test_a_daemon_that_ended_well_without_a_word_of_its_rank() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.rank_ended(0, 0, 0)
    daemon = supervisor.daemon_ended(1, 0)
    assert daemon is not None
    outcome = end_of(daemon.then)
    assert outcome.reason is not None
    assert outcome.reason["code"] == "JobRankFailed"
    assert outcome.reason["text"].startswith("MPI's daemon on node-1 exited with 0: 1 of 2 ranks never")


WORKERS_AND_SERVER = LaunchPlan(
    (Process(0, "worker", 0, ""), Process(1, "worker", 1, ""), Process(0, "ps", 0, "", essential=False))
)


@pytest.mark.parametrize(("codes", "result", "exit_code"), [((7, 0), "failed", 7), ((0, 0), "succeeded", 0)])
def test_who_was_warned_may_leave_one_after_another(codes: tuple[int, int], result: str, exit_code: int) -> None:
    supervisor = Supervisor(WORKERS_AND_SERVER, HOSTS)
    supervisor.warned()
    assert supervisor.process_ended(0, "ps", 0, 143) is None
    assert supervisor.process_ended(1, "worker", 1, codes[0]) is None
    outcome = end_of(supervisor.process_ended, 0, "worker", 0, codes[1])
    assert (outcome.result, outcome.exit_code) == (result, exit_code)


def test_ranks_that_were_warned_may_leave_one_after_another() -> None:
    supervisor = Supervisor(MPI, HOSTS)
    supervisor.warned()
    assert supervisor.rank_ended(0, 0, 7) is None
    assert seconds(supervisor.rank_ended(1, 1, 0)) == LAUNCHER_SECONDS
    agents = torchrun()
    agents.warned()
    assert agents.rank_ended(0, 0, 7) is None
    assert agents.process_ended(0, "agent", 0, 1) is None
    assert agents.rank_ended(1, 1, 0) is None
    assert end_of(agents.process_ended, 1, "agent", 1, 0).exit_code == 7


def torchrun() -> Supervisor:
    """Two agents, whose ranks have begun."""
    supervisor = Supervisor(TORCHRUN, HOSTS)
    for rank in range(2):
        supervisor.rank_began(rank, rank)
    return supervisor


@pytest.mark.parametrize("rank_first", [True, False])
def test_the_rank_of_an_agent_that_failed_is_named(rank_first: bool) -> None:
    supervisor = torchrun()
    if rank_first:
        assert supervisor.rank_ended(1, 1, 3) is None
        outcome = end_of(supervisor.process_ended, 1, "agent", 1, 1)
    else:
        assert seconds(supervisor.process_ended(1, "agent", 1, 1)) == LAUNCHER_SECONDS
        outcome = end_of(supervisor.rank_ended, 1, 1, 3)
    assert (outcome.result, outcome.exit_code) == ("failed", 3)
    assert outcome.reason is not None
    assert outcome.reason["text"] == "Job failed with non-zero exit code: rank 1 on node-1 exited with 3"
    assert outcome.reason["details"]["stdErrFile"] == "ranks/stderr-1.txt"


def test_ranks_that_the_agents_start_again() -> None:
    supervisor = torchrun()
    supervisor.rank_ended(1, 1, 3)
    supervisor.rank_ended(0, 0, 143, asked=True)
    for rank in range(2):
        supervisor.rank_began(rank, rank)
        assert supervisor.rank_ended(rank, rank, 0) is None
    assert supervisor.process_ended(0, "agent", 0, 0) is None
    assert end_of(supervisor.process_ended, 1, "agent", 1, 0) == Outcome("succeeded", 0)


def test_an_agent_that_fails_before_its_ranks_began() -> None:
    outcome = end_of(Supervisor(TORCHRUN, HOSTS).process_ended, 1, "agent", 1, 1)
    assert outcome.reason is not None
    assert outcome.reason["details"]["process"] == "agent 1"
    assert outcome.reason["details"]["stdErrFile"] == "stderr-1.txt"


def test_an_agent_that_was_killed_is_blamed_and_not_its_ranks() -> None:
    supervisor = torchrun()
    wait = supervisor.process_ended(1, "agent", 1, 137)
    assert wait is not None
    supervisor.rank_ended(0, 0, 143, asked=True)
    outcome = end_of(wait.then)
    assert outcome.exit_code == 137
    assert outcome.reason is not None
    assert outcome.reason["details"]["process"] == "agent 1"


def test_agents_that_say_all_is_well_are_not_believed_without_their_ranks() -> None:
    supervisor = torchrun()
    supervisor.rank_ended(0, 0, 0)
    supervisor.process_ended(0, "agent", 0, 0)
    wait = supervisor.process_ended(1, "agent", 1, 0)
    assert wait is not None
    outcome = end_of(wait.then)
    assert outcome.reason is not None
    assert outcome.reason["text"].startswith("torchrun ended with exit code 0, but 1 of 2 ranks never said")
