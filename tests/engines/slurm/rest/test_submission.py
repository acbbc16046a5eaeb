"""Arguments of sbatch as slurmrestd of each version takes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trainshed.engines.kind import Making
from trainshed.engines.slurm.kind import KIND
from trainshed.engines.slurm.rest.submission import request
from trainshed.engines.slurm.script import arguments
from trainshed.engines.slurm.settings import ClusterOptions, InvalidSettings, SlurmSettings
from trainshed.resources.engines import InvalidEngines
from trainshed.resources.preemption import StopWarning

#: Members of ``v0.0.40_job_desc_msg`` and ``v0.0.38_job_properties`` that are used, from the published documents.
NEWER = set(
    re.findall(
        r"\w+",
        """account array comment constraints cpus_per_task current_working_directory environment excluded_nodes
        kill_warning_delay kill_warning_flags kill_warning_signal licenses memory_per_node minimum_cpus name nice nodes
        open_mode partition qos requeue reservation script shared standard_output tasks tasks_per_node time_limit
        tres_per_node""",
    )
)


def every(exclusive: str) -> list[str]:
    """What the engine ever says to sbatch."""
    options = dict.fromkeys(("account", "qos", "constraint", "reservation", "licenses", "exclude", "partition"), "x")
    return arguments(
        SlurmSettings.parse({"directory": "/shared"}),
        ClusterOptions.parse({**options, "exclusive": exclusive}),
        name="job",
        comment="trainshed:a:b",
        nodes=2,
        cpus=4,
        memory_mib=512,
        gpus=2,
        minutes=70,
        priority=-1000,
        warning=StopWarning("SIGUSR1", 60.0),
        output=Path("/shared/o"),
    )


@pytest.mark.parametrize("exclusive", ["yes", "no"])
@pytest.mark.parametrize("version", [(0, 0, 38), (0, 0, 39), (0, 0, 40), (0, 0, 44)])
def test_all_that_the_engine_says_has_a_word(version: tuple[int, int, int], exclusive: str) -> None:
    body = request([*every(exclusive), "--array=0-3"], "#!/bin/sh\n", {"PATH": "/bin"}, version)
    job = body["job"]
    assert (body.get("script") or job["script"]) == "#!/bin/sh\n"
    assert job["name"] == "job" and job["nodes"] == "2" and job["nice"] == 1000 and job["requeue"] is True
    if version >= (0, 0, 39):
        assert set(job) <= NEWER
        assert job["time_limit"] == {"set": True, "infinite": False, "number": 70}
        assert job["environment"] == ["PATH=/bin"] and job["open_mode"] == ["APPEND"]
        assert (job["kill_warning_signal"], job["kill_warning_flags"]) == ("USR2", ["BATCH_JOB"])


def test_the_shapes_of_v0_0_38() -> None:
    job = request(every("yes"), "", {"PATH": "/bin"}, (0, 0, 38))["job"]
    assert (job["exclusive"], job["memory_per_node"], job["time_limit"]) == ("exclusive", 0, 70)
    assert (job["gres"], job["exclude_nodes"], job["environment"]) == ("gpu:2", "x", {"PATH": "/bin"})
    assert "signal" not in job


def test_the_shapes_of_later_versions() -> None:
    shared = request(every("no"), "", {}, (0, 0, 40))["job"]
    assert (shared["tasks"], shared["tasks_per_node"], shared["cpus_per_task"], shared["minimum_cpus"]) == (2, 1, 4, 8)
    assert shared["memory_per_node"]["number"] == 512 and "shared" not in shared
    whole = request(every("yes"), "", {}, (0, 0, 40))["job"]
    assert whole["shared"] == ["none"] and whole["excluded_nodes"] == ["x"]
    for version, gres in (((0, 0, 39), "gres:gpu:2"), ((0, 0, 40), "gres/gpu:2")):
        assert request(["--gres=gpu:2"], "", {}, version)["job"]["tres_per_node"] == gres
    assert "script" in request([], "x", {}, (0, 0, 40)) and "script" in request([], "x", {}, (0, 0, 41))["job"]


@pytest.mark.parametrize("argument", ["--wait", "--mem=2G", "--burst=x", "--time=1-0"])
def test_what_it_has_no_word_for_is_refused(argument: str) -> None:
    with pytest.raises(InvalidSettings, match=re.escape(argument)):
        request([argument], "", {}, (0, 0, 40))


REST = {"rest_url": "http://127.0.0.1:6820", "token_file": "/t"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"token_file": "/t"}, "'token_file' is for slurmrestd: give 'rest_url' too"),
        ({"rest_url": "http://127.0.0.1:6820"}, "needs one of 'token_file' and 'token_command'"),
        ({**REST, "token_command": "x"}, "needs one of 'token_file' and 'token_command'"),
        ({**REST, "ssh": "login"}, "'rest_url' and 'ssh' are two ways"),
        ({**REST, "sbatch": "--wait"}, "slurmrestd cannot be told '--wait'"),
        ({**REST, "rest_url": "127.0.0.1:6820"}, "must be http://HOST:PORT"),
        ({**REST, "rest_url": "unix:socket"}, "must be http://HOST:PORT"),
        ({**REST, "token_file": "t"}, "'token_file' must be an absolute path"),
        ({**REST, "token_command": "'"}, "'token_command' is no command"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(given: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidEngines, match=re.escape(said)):
        KIND.make(Making("hpc", tmp_path, {"directory": "/shared", **given}, None))
