"""Slurm's words as reasons: why a job waits, how it ended, what is wrong with a node. Its word is in the details."""

from __future__ import annotations

from collections.abc import Mapping

from trainshed.engines.protocol import GangResult, NodeCondition
from trainshed.engines.slurm.parsing import NodeLine, QueueLine
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.resources.times import format_time

_LIMIT = "a limit of the site is reached; it starts when that allows, or ask the site's administrator"
#: Beginnings of Slurm's reasons (``squeue %r``), with what they mean; the first that fits counts.
_WAITING: tuple[tuple[str, ReasonCode, str], ...] = (
    ("Priority", ReasonCode.WAITING_BEHIND_JOBS, "jobs of higher priority are before it in Slurm's queue"),
    ("Resources", ReasonCode.WAITING_FOR_NODES, "it is next, and waits until enough nodes are free"),
    ("None", ReasonCode.WAITING_FOR_SCHEDULER, "Slurm has not looked at it yet"),
    ("BeginTime", ReasonCode.WAITING_FOR_RETRY, "Slurm starts it again after a pause"),
    ("Cleaning", ReasonCode.WAITING_FOR_RETRY, "its former run is being cleaned up"),
    ("Dependency", ReasonCode.WAITING_FOR_DEPENDENCIES, "it depends on jobs of Slurm that have not ended"),
    ("Reservation", ReasonCode.WAITING_FOR_RESERVATION, "its reservation is not active yet"),
    ("ReqNodeNotAvail", ReasonCode.NODES_UNUSABLE, "nodes that it needs are down, drained or reserved"),
    ("Nodes required for job are DOWN", ReasonCode.NODES_UNUSABLE, "nodes that it needs are down, drained or reserved"),
    ("PartitionDown", ReasonCode.NODES_UNUSABLE, "its partition is down"),
    ("PartitionInactive", ReasonCode.NODES_UNUSABLE, "its partition takes no jobs now"),
    ("PartitionNodeLimit", ReasonCode.CLUSTER_TOO_SMALL, "it needs more nodes than its partition has or allows"),
    ("PartitionTimeLimit", ReasonCode.LIMIT_REACHED, "its maxWallClockTime is longer than its partition allows"),
    ("BadConstraints", ReasonCode.CLUSTER_TOO_SMALL, "no nodes of the partition are as it wants them"),
    ("JobHeldUser", ReasonCode.WAITING_FOR_SCHEDULER, "it is held; scontrol release {job} lets it go on"),
    (
        "JobHeldAdmin",
        ReasonCode.WAITING_FOR_SCHEDULER,
        "an administrator, or Slurm after a failed start, holds it; scontrol release {job} lets it go on",
    ),
    ("JobHoldMaxRequeue", ReasonCode.WAITING_FOR_SCHEDULER, "Slurm started it too often; scontrol release {job}"),
    (
        "launch failed requeued held",
        ReasonCode.WAITING_FOR_SCHEDULER,
        "a node could not start it, and Slurm holds it; see slurmd's log there, then scontrol release {job}",
    ),
    ("Licenses", ReasonCode.WAITING_FOR_NODES, "licences that it needs are in use"),
    ("Prolog", ReasonCode.NODES_PREPARING, "its nodes are being prepared"),
    ("QOS", ReasonCode.LIMIT_REACHED, _LIMIT),
    ("Assoc", ReasonCode.LIMIT_REACHED, _LIMIT),
    ("Max", ReasonCode.LIMIT_REACHED, _LIMIT),
    ("InvalidAccount", ReasonCode.LIMIT_REACHED, "its account is not valid; see the cluster's option 'account'"),
    ("InvalidQOS", ReasonCode.LIMIT_REACHED, "its quality of service is not valid; see the cluster's option 'qos'"),
)


def why_waiting(line: QueueLine, now: int) -> Reason:
    """Why Slurm has not started a job. ``now``: Unix ms."""
    word = line.reason or "None"
    code, meaning = ReasonCode.WAITING_FOR_SCHEDULER, "see squeue's manual page for what that means"
    for beginning, its_code, its_meaning in _WAITING:
        if word.lower().startswith(beginning.lower()):
            code, meaning = its_code, its_meaning.format(job=line.job)
            break
    details = {"slurmJob": line.job, "slurmReason": word, "slurmState": line.state}
    text = f"Slurm's job {line.job} waits ({word}): {meaning}."
    if line.start is not None and line.start > now:
        details["expectedStart"] = format_time(line.start)
        text += f" Slurm expects to start it at {details['expectedStart']}."
    return Reason(code, text, details)


#: How Slurm's final states end an attempt that did not come to an end of its own.
_ENDINGS: Mapping[str, tuple[GangResult, ReasonCode, str]] = {
    "PREEMPTED": (GangResult.STOPPED, ReasonCode.PREEMPTED, "Slurm pre-empted it for a job of higher priority"),
    "CANCELLED": (
        GangResult.FAILED,
        ReasonCode.JOB_TERMINATED,
        "it was cancelled in Slurm (scancel), not by Trainshed",
    ),
    "NODE_FAIL": (GangResult.LOST, ReasonCode.NODE_LOST, "one of its nodes failed"),
    "BOOT_FAIL": (GangResult.LOST, ReasonCode.NODE_LOST, "one of its nodes did not start"),
    "TIMEOUT": (GangResult.FAILED, ReasonCode.JOB_WALL_CLOCK_EXCEEDED, "it ran longer than Slurm lets it"),
    "DEADLINE": (GangResult.FAILED, ReasonCode.JOB_WALL_CLOCK_EXCEEDED, "its deadline in Slurm has passed"),
    "OUT_OF_MEMORY": (GangResult.FAILED, ReasonCode.JOB_FAILED, "it used more memory than Slurm gave it"),
    "REVOKED": (GangResult.LOST, ReasonCode.NODE_LOST, "Slurm gave it to another cluster of the federation"),
}


def how_ended(job: str, state: str) -> tuple[GangResult, Reason] | None:
    """What a final state means that was not the job's own doing; None for COMPLETED and FAILED, which it may be."""
    found = _ENDINGS.get(state)
    if found is None:
        return None
    result, code, meaning = found
    return result, Reason(code, f"Slurm's job {job} ended with {state}: {meaning}.", _details(job, state))


def requeued(job: str, said: str) -> tuple[GangResult, Reason]:
    """For an attempt whose job Slurm has queued again; ``said`` is what Slurm wrote into the job's output."""
    last = said.upper().rpartition("CANCELLED AT")[2]
    if "DUE TO PREEMPTION" in last:
        result, code, meaning = GangResult.STOPPED, ReasonCode.PREEMPTED, "pre-empted it for a job of higher priority"
    elif "DUE TO JOB REQUEUE" in last:
        result, code, meaning = GangResult.STOPPED, ReasonCode.ENGINE_STOPPED, "was told to requeue it"
    else:
        result, code, meaning = GangResult.LOST, ReasonCode.NODE_LOST, "lost one of its nodes"
    text = f"Slurm {meaning} and has queued its job {job} again."
    return result, Reason(code, text, _details(job, "REQUEUED"))


def runner_lost(job: str, state: str, said: str) -> Reason:
    """For a job that ended without a word of its runner."""
    tail = " ".join(said.split())[-400:]
    text = f"Slurm's job {job} ended ({state}) and its runner left no outcome."
    if tail:
        text += f" The job's script said last: {tail}"
    return Reason(ReasonCode.RUNNER_LOST, text, _details(job, state))


def cannot_start(job: str, said: str) -> Reason:
    """For a job whose nodes cannot run the runner at all: again would be the same."""
    tail = " ".join(said.split())[-400:] or "nothing"
    return Reason(
        ReasonCode.JOB_LAUNCH_FAILED,
        f"The runner could not be started by Slurm's job {job}. Its script said: {tail}. "
        "Check the engine's settings 'directory', 'python' and 'setup' with trainshed doctor.",
        _details(job, "FAILED"),
    )


def unknown(job: str) -> Reason:
    """For a job of which Slurm knows nothing any more."""
    what = f"job {job}" if job else "the job, which may never have reached it"
    return Reason(
        ReasonCode.RUNNER_LOST,
        f"Slurm no longer knows {what}, and its runner left no outcome. The job is queued again.",
        {"slurmJob": job} if job else {},
    )


def not_submitted(said: str, *, limit: bool) -> Reason:
    """For a job that Slurm has not taken yet, and is asked to take again and again."""
    if limit:
        text = f"Slurm takes no more jobs of this user now ({said}); it is asked again and again."
        return Reason(ReasonCode.LIMIT_REACHED, text, {"said": said})
    text = f"The job could not be given to Slurm yet ({said}); it is tried again and again."
    return Reason(ReasonCode.ENGINE_UNAVAILABLE, text, {"said": said})


def refused(said: str) -> Reason:
    """For a job that Slurm will never take as it is."""
    return Reason(
        ReasonCode.JOB_LAUNCH_FAILED,
        f"Slurm refused the job: {said}. Change the job, or the engine options of its cluster.",
        {"said": said},
    )


#: What sbatch says when a later try may succeed.
_LATER = (
    "QOSMaxSubmitJob",
    "AssocMaxSubmitJob",
    "AssocGrpSubmitJobs",
    "QOSGrpSubmitJobs",
    "MaxJobCount",
    "job submit limit",
    "Slurm temporarily unable",
    "Too many jobs",
    "maximum number of jobs",
)


def may_succeed_later(said: str) -> bool:
    """Whether a refusal by sbatch is about how much is queued now."""
    return any(words.lower() in said.lower() for words in _LATER)


def _details(job: str, state: str) -> dict[str, str]:
    return {"slurmJob": job, "slurmState": state}


#: Beginnings of states of nodes that take no jobs.
_UNUSABLE = (
    "down",
    "drain",
    "drng",
    "fail",
    "error",
    "unknown",
    "unk",
    "future",
    "inval",
    "maint",
    "not_resp",
    "block",
)
_PREPARING = ("power_up", "powering_up", "reboot", "boot")
_OFF = ("powered_down", "powering_down", "power_down", "power_off")


def condition_of(node: NodeLine) -> tuple[NodeCondition, Reason | None] | None:
    """Of a node as Slurm shows it; None for one that is switched off, which is not there."""
    if node.state.startswith(_OFF) or "~" in node.marks or "%" in node.marks:
        return None
    details = {"slurmState": f"{node.state}{node.marks}"}
    if node.state.startswith(_PREPARING) or "#" in node.marks or "@" in node.marks:
        return NodeCondition.PREPARING, Reason(
            ReasonCode.NODE_STARTING, f"Slurm is switching node {node.name} on ({node.state}{node.marks}).", details
        )
    if node.state.startswith(_UNUSABLE) or "*" in node.marks:
        why = f": {node.reason}" if node.reason else ""
        return NodeCondition.UNUSABLE, Reason(
            ReasonCode.NODE_NOT_READY,
            f"Slurm has node {node.name} as {node.state}{node.marks}{why}. When it is mended: "
            f"scontrol update NodeName={node.name} State=RESUME.",
            details,
        )
    return NodeCondition.READY, None
