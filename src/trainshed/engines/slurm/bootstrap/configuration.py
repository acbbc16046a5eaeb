"""slurm.conf, cgroup.conf and gres.conf of a site; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainshed.engines.slurm.bootstrap import layout
from trainshed.engines.slurm.bootstrap.facts import HostFacts
from trainshed.engines.slurm.bootstrap.request import Mode, Request

#: From here on Slurm works without any cgroup.
_CGROUPS_OPTIONAL = (23, 11)


def files(request: Request, facts: Mapping[str, HostFacts], mode: Mode) -> dict[str, str]:
    """The text of each file by its path, the same on all hosts.

    ``facts`` has every host by its name. Cores and memory are confined by cgroups where systemd and a cgroup v2 tree
    are on every host: Slurm before 23.02 asks systemd for its cgroups.
    """
    confined = mode is Mode.SERVICES and all(fact.cgroups for fact in facts.values())
    found = {layout.CONF: _slurm(request, facts, confined), layout.CGROUP_CONF: _cgroup(facts, confined)}
    if any(fact.gpus for fact in facts.values()):
        found[layout.GRES_CONF] = _gres(request, facts)
    return found


def usable_memory(memory: int) -> int:
    """MiB that jobs may have: what the system needs is left, and a kernel that takes a little more changes nothing."""
    return max(memory - max(512, memory // 20), memory // 2) // 100 * 100 or memory // 2


def gpu_types(facts: HostFacts) -> dict[str, list[int]]:
    """Numbers of a host's GPUs by the type that jobs name, such as ``a100`` or ``geforce_rtx_3090``."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(facts.gpus):
        found.setdefault(_type_of(name), []).append(number)
    return found


def _type_of(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"^(nvidia|tesla)\s+", "", name.strip().lower())).strip("_")
    # 'A100-SXM4-80GB' and 'H100 80GB HBM3' are what people call a100 and h100.
    data_center = re.match(r"(?:tesla_)?([abhlptv]\d+[a-z]?)(?:_|$)", words)
    return (data_center[1] if data_center else words) or "gpu"


def _slurm(request: Request, facts: Mapping[str, HostFacts], confined: bool) -> str:
    ordered = [(host, facts[host.name]) for host in request.hosts]
    names = ",".join(fact.short for _, fact in ordered)
    _, head = ordered[0]
    lines = [
        f"{layout.MARK}{request.site}",
        "# Run that again to change it; what is written here by hand is replaced then.",
        f"ClusterName={request.site}",
        f"SlurmctldHost={head.short}({request.first.address})",
        "SlurmUser=slurm",
        "AuthType=auth/munge",
        "# How long a requeued job is held; 120 s by default.",
        "AuthInfo=cred_expire=30",
        f"StateSaveLocation={layout.OWN}/slurmctld",
        f"SlurmdSpoolDir={layout.OWN}/slurmd",
        f"SlurmctldLogFile={layout.LOGS}/slurmctld.log",
        f"SlurmdLogFile={layout.LOGS}/slurmd.log",
        f"SlurmctldPort={layout.PORTS[0]}",
        f"SlurmdPort={layout.PORTS[1]}",
        f"SrunPortRange={layout.SRUN_PORTS}",
        f"ProctrackType=proctrack/{'cgroup' if confined else 'linuxproc'}",
        f"TaskPlugin=task/{'cgroup,task/affinity' if confined else 'none'}",
        "JobAcctGatherType=jobacct_gather/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "MpiDefault=none",
        "# Nodes come back by themselves after a reboot, and are missed after a minute.",
        "ReturnToService=2",
        "SlurmdTimeout=60",
        "JobRequeue=1",
        "# What makes it quick: jobs are looked at as soon as one is submitted or ends.",
        "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=2",
        "Epilog=/bin/true",
    ]
    if request.low_partition:
        lines += [
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            "SlurmctldParameters=preempt_send_user_signal",
        ]
    if any(fact.gpus for _, fact in ordered):
        lines.append("GresTypes=gpu")
    lines += [_node(host.address, fact) for host, fact in ordered]
    per_cpu = min(usable_memory(fact.memory) // fact.cpus for _, fact in ordered)
    common = f"Nodes={names} MaxTime=UNLIMITED DefMemPerCPU={max(per_cpu, 1)}"
    usual = " PriorityTier=10 PreemptMode=OFF" if request.low_partition else ""
    lines.append(f"PartitionName={request.partition} {common} Default=YES{usual}")
    if request.low_partition:
        lines.append(f"PartitionName={request.low_partition} {common} PriorityTier=1 PreemptMode=REQUEUE")
    return "\n".join(lines) + "\n"


def _node(address: str, fact: HostFacts) -> str:
    gpus = ",".join(f"gpu:{kind}:{len(numbers)}" for kind, numbers in gpu_types(fact).items())
    return (
        f"NodeName={fact.short} NodeAddr={address} Sockets={fact.sockets} "
        f"CoresPerSocket={fact.cores} ThreadsPerCore={fact.threads} RealMemory={usable_memory(fact.memory)}"
        + (f" Gres={gpus}" if gpus else "")
        + " State=UNKNOWN"
    )


def _cgroup(facts: Mapping[str, HostFacts], confined: bool) -> str:
    if confined:
        return "CgroupPlugin=autodetect\nConstrainCores=yes\nConstrainRAMSpace=yes\nConstrainDevices=yes\n"
    versions = [version for fact in facts.values() if (version := fact.slurm_version) is not None]
    # Before 23.11 there is no way to say none; nothing of it is used where processes are tracked otherwise.
    none = bool(versions) and min(versions) >= _CGROUPS_OPTIONAL
    return f"CgroupPlugin={'disabled' if none else 'cgroup/v1'}\n"


def _gres(request: Request, facts: Mapping[str, HostFacts]) -> str:
    lines = []
    for host in request.hosts:
        fact = facts[host.name]
        for kind, numbers in gpu_types(fact).items():
            lines += [f"NodeName={fact.short} Name=gpu Type={kind} File=/dev/nvidia{number}" for number in numbers]
    return "\n".join(lines) + "\n"
