"""What is done for which facts: tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from trainshed.engines.slurm.bootstrap import configuration, layout
from trainshed.engines.slurm.bootstrap.facts import Daemon, HostFacts
from trainshed.engines.slurm.bootstrap.plan import plan
from trainshed.engines.slurm.bootstrap.problems import ProblemCode
from trainshed.engines.slurm.bootstrap.request import Mode, Request, parse_hosts
from trainshed.engines.slurm.bootstrap.survey import parse
from trainshed.engines.slurm.bootstrap.undo import undo
from trainshed.resources.engines import InvalidEngines

ALL = frozenset((*layout.NODE_PACKAGES, *layout.CONTROLLER_PACKAGES))
RUNS = Daemon(running=True)


def request(hosts: str = "a,b", **more: Any) -> Request:
    given: dict[str, Any] = {"site": "team", "job_user": "ann", "job_uid": 1000, "directory": "/shared", **more}
    return Request(hosts=parse_hosts(hosts), **given)


def host(name: str, **more: Any) -> HostFacts:
    """A host with nothing on it."""
    bare: dict[str, Any] = {
        "system": "debian",
        "release": "12",
        "hostname": name,
        "boot": f"boot-{name}",
        "cores": 4,
        "memory": 16000,
        "addresses": {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"},
        "uid": 1000,
    }
    return HostFacts(**{**bare, **more})


def hosts(*names: str, **more: Any) -> dict[str, HostFacts]:
    return {name: host(name, **more) for name in names}


def done(asked: Request, facts: Mapping[str, HostFacts], mode: Mode = Mode.SERVICES) -> dict[str, HostFacts]:
    """The hosts when all of it is done."""
    files = {p: hashlib.sha256(c.encode()).hexdigest() for p, c in configuration.files(asked, facts, mode).items()}
    found = {}
    for name, fact in facts.items():
        daemons = {"munged": RUNS, "slurmd": RUNS} | ({"slurmctld": RUNS} if name == asked.first.name else {})
        found[name] = replace(
            fact, packages=ALL, key="k", files=files, site=asked.site, nodes=tuple(facts), daemons=daemons
        )
    return found


def told(asked: Request, facts: Mapping[str, HostFacts]) -> list[str]:
    planned = plan(asked, facts)
    assert planned.problems == ()
    return [f"{step.host}: {step.what}" for step in planned.steps]


def test_bare_hosts_get_everything_in_order() -> None:
    nodes = ", ".join(layout.NODE_PACKAGES)
    assert told(request(), hosts("a", "b")) == [
        f"a: install {nodes}, slurmctld",
        f"b: install {nodes}",
        "a: make munge's key",
        "b: put munge's key of a there",
        "a: write /etc/slurm/slurm.conf",
        "a: write /etc/slurm/cgroup.conf",
        "b: write /etc/slurm/slurm.conf",
        "b: write /etc/slurm/cgroup.conf",
        "a: start the service munge, now and after each boot",
        "b: start the service munge, now and after each boot",
        "a: start the service slurmctld, now and after each boot",
        "a: start the service slurmd, now and after each boot",
        "b: start the service slurmd, now and after each boot",
        "a: wait until the controller has 2 nodes (a, b)",
        "a: run a job of a moment as ann on all nodes",
    ]


def test_when_all_is_done_nothing_is_to_do() -> None:
    assert told(request(), done(request(), hosts("a", "b"))) == []


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"daemons": {"munged": RUNS}}, ["b: start the service slurmd, now and after each boot"]),
        (
            {"daemons": {"munged": RUNS, "slurmd": Daemon(running=True, stale=True)}},
            ["b: restart the service slurmd, now and after each boot"],
        ),
        (
            {"key": "another"},
            [
                f"b: put munge's key of a there (the one that is there is kept as {layout.FORMER_KEY})",
                "b: restart the service munge, now and after each boot",
            ],
        ),
        ({"packages": ALL - {"python3"}}, ["b: install python3"]),
    ],
    ids=["slurmd is gone", "slurmd has not read its files", "another key", "a package"],
)
def test_what_differs_is_done_and_proven(change: dict[str, Any], steps: list[str]) -> None:
    facts = done(request(), hosts("a", "b"))
    facts["b"] = replace(facts["b"], **change)
    proof = ["a: wait until the controller has 2 nodes (a, b)", "a: run a job of a moment as ann on all nodes"]
    assert told(request(), facts) == [*steps, *proof]


def test_a_host_more_changes_files_everywhere_and_packages_only_there() -> None:
    facts = {**done(request(), hosts("a", "b")), **hosts("c")}
    steps = told(request("a,b,c"), facts)
    assert [step for step in steps if "install" in step] == [f"c: install {', '.join(layout.NODE_PACKAGES)}"]
    assert {step[0] for step in steps if "write /etc/slurm/slurm.conf" in step} == {"a", "b", "c"}
    assert [step for step in steps if "munge" in step and "install" not in step] == [
        "c: put munge's key of a there",
        "c: start the service munge, now and after each boot",
    ]


def test_a_host_less_is_told_of() -> None:
    planned = plan(request("a"), {"a": done(request(), hosts("a", "b"))["a"]})
    assert "b: no longer of the site" in planned.notes[0]


def test_nodes_that_are_down_are_taken_back_and_drained_ones_stay() -> None:
    facts = done(request(), hosts("a", "b"))
    facts["a"] = replace(facts["a"], states={"a": "drained", "b": "down*"})
    planned = plan(request(), facts)
    assert "NodeName=b State=RESUME" in planned.steps[0].script and len(planned.steps) == 2
    assert "the node is drained, and stays so" in planned.notes[0]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"system": "fedora", "release": "40"}, ProblemCode.UNSUPPORTED_SYSTEM),
        ({"release": "11"}, ProblemCode.UNSUPPORTED_SYSTEM),
        ({"system": "ubuntu", "release": "22.04"}, ProblemCode.UNSUPPORTED_SYSTEM),
        ({"release": "13"}, ProblemCode.DIFFERENT_SYSTEMS),
        ({"slurm": ""}, ProblemCode.NO_PACKAGES),
        ({"strange": ("/etc/slurm/slurm.conf",)}, ProblemCode.OTHER_SLURM),
        ({"site": "other"}, ProblemCode.OTHER_SLURM),
        ({"daemons": {"slurmd": RUNS}}, ProblemCode.OTHER_SLURM),
        ({"uid": 1001}, ProblemCode.USER_DIFFERS),
        ({"uid": None}, ProblemCode.USER_DIFFERS),
        ({"directory_seen": False}, ProblemCode.DIRECTORY_NOT_SHARED),
        ({"directory_writable": False}, ProblemCode.DIRECTORY_NOT_WRITABLE),
        ({"ahead": -90.0}, ProblemCode.CLOCK_SKEW),
        ({"systemd": False}, ProblemCode.NO_SYSTEMD),
        ({"addresses": {"b": "127.0.1.1"}}, ProblemCode.NAME_NOT_RESOLVED),
        ({"addresses": {"a": "127.0.1.1", "b": "10.0.0.2"}}, ProblemCode.NAME_NOT_RESOLVED),
        ({"hostname": "a"}, ProblemCode.SAME_HOST),
    ],
)
def test_what_stands_in_the_way_of_one_host_stops_all(change: dict[str, Any], code: ProblemCode) -> None:
    facts = {**hosts("a"), "b": host("b", **change)}
    planned = plan(request(mode=Mode.SERVICES), facts)
    assert planned.steps == ()
    assert [(problem.host, problem.code) for problem in planned.problems] == [("b", code)]
    assert all(problem.mend for problem in planned.problems)


def test_debians_own_line_for_the_host_itself_is_no_problem() -> None:
    facts = hosts("a", "b")
    facts["b"] = replace(facts["b"], addresses={**facts["b"].addresses, "b": "127.0.1.1"})
    assert plan(request(), facts).problems == ()


def test_without_systemd_there_are_plain_daemons_and_no_cgroups() -> None:
    facts = hosts("a", "b", systemd=False)
    planned = plan(request(), facts)
    assert any("plain daemon" in step.what for step in planned.steps) and "reboot" in planned.notes[0]
    assert "systemctl" not in "".join(step.script for step in planned.steps)
    files = configuration.files(request(), facts, Mode.DAEMONS)
    assert "ProctrackType=proctrack/linuxproc" in files[layout.CONF]
    assert files[layout.CGROUP_CONF] == "CgroupPlugin=cgroup/v1\n"
    newer = configuration.files(request(), hosts("a", "b", slurm="24.11.5-4"), Mode.DAEMONS)
    assert newer[layout.CGROUP_CONF] == "CgroupPlugin=disabled\n"


def test_configuration_has_gpus_memory_and_pre_emption() -> None:
    asked = request("a,b=10.0.0.2", low_partition="spare")
    facts = {"a": host("a"), "b": host("b", gpus=("NVIDIA A100-SXM4-80GB",) * 2 + ("NVIDIA GeForce RTX 3090",))}
    files = configuration.files(asked, facts, Mode.SERVICES)
    lines = files[layout.CONF].splitlines()
    assert lines[0] == layout.MARK + "team"
    assert "ConstrainDevices=yes" in files[layout.CGROUP_CONF] and "ProctrackType=proctrack/cgroup" in lines
    node = next(line for line in lines if line.startswith("NodeName=b"))
    assert "NodeAddr=10.0.0.2 " in node and "RealMemory=15200 " in node
    assert "CoresPerSocket=4" in node and "Gres=gpu:a100:2,gpu:geforce_rtx_3090:1" in node
    assert files[layout.GRES_CONF].splitlines() == [
        "NodeName=b Name=gpu Type=a100 File=/dev/nvidia0",
        "NodeName=b Name=gpu Type=a100 File=/dev/nvidia1",
        "NodeName=b Name=gpu Type=geforce_rtx_3090 File=/dev/nvidia2",
    ]
    main, spare = (line for line in lines if line.startswith("PartitionName"))
    assert "Default=YES PriorityTier=10 PreemptMode=OFF" in main and "PriorityTier=1 PreemptMode=REQUEUE" in spare
    assert "PreemptType=preempt/partition_prio" in lines


def test_no_secret_is_in_a_plan() -> None:
    facts = done(request(), hosts("a", "b"))
    facts["b"] = replace(facts["b"], key="digest-of-b")
    planned = plan(request(), facts)
    step = next(step for step in planned.steps if step.key_from)
    assert step.key_from == "a" and step.content == "" and "digest" not in f"{planned} {planned.json}"


def test_undo_takes_away_what_is_ours_nodes_first() -> None:
    facts = {**done(request(), hosts("a", "b")), **hosts("c")}
    planned = undo(request("a,b,c"), facts)
    assert [step.host for step in planned.steps] == ["b", "a"]
    assert planned.notes == ("c: nothing of the site 'team' is there",)
    facts["a"] = replace(facts["a"], jobs=2)
    assert [problem.code for problem in undo(request("a,b,c"), facts).problems] == [ProblemCode.JOBS_RUN]


@pytest.mark.parametrize(
    "more",
    [
        {"hosts": ""},
        {"hosts": "a,a"},
        {"hosts": "a,-oProxyCommand=x"},
        {"hosts": "a,b=10.0.0.1;reboot"},
        {"partition": "main one"},
        {"low_partition": "main"},
        {"directory": "shared"},
        {"directory": "/shared/$(reboot)"},
    ],
)
def test_what_cannot_be_asked_for(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidEngines):
        request(**more)


def test_what_a_host_says_of_itself_is_read() -> None:
    said = """\
clock=1000.5
uid0=0
system=ubuntu
release=24.04
hostname=n1.example.org
boot=b
systemd=yes
controllers=cpuset cpu io memory
cpu=0,0
cpu=0,0
cpu=0,1
cpu=0,1
processors=4
memory=7900
gpu=Tesla T4
package=munge 0.5.15
package=slurmd 23.11.4-1ubuntu1
candidate=(none)
file=/etc/slurm/slurm.conf abc
mark=team
node=n1
daemon=slurmd stale
address=a 10.0.0.1
address=b\x20
uid=
python=3.12
state=n1 idle*
jobs=3
"""
    found = parse(said, now=1000.0)
    assert (found.sockets, found.cores, found.threads, found.cpus) == (1, 2, 2, 4)
    assert found.short == "n1" and found.slurm_version == (23, 11) and found.cgroups and found.systemd
    assert found.daemons == {"slurmd": Daemon(running=True, stale=True)} and found.uid is None
    assert found.addresses == {"a": "10.0.0.1", "b": ""} and found.states == {"n1": "idle*"}
    assert found.site == "team" and found.strange == () and found.ahead == 0.5 and found.jobs == 3
    assert parse(said.replace("mark=team", "mark="), now=0.0).strange == ("/etc/slurm/slurm.conf",)
