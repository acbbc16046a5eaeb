"""What is submitted, as tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainshed.engines.slurm.kind import KIND
from trainshed.engines.slurm.node.nodes import per_node
from trainshed.engines.slurm.script import (
    TOKEN_VARIABLE,
    arguments,
    array_arguments,
    comment,
    job_name,
    likeness,
    minutes,
    script,
    script_from_afar,
    ticket_of,
)
from trainshed.engines.slurm.settings import InvalidSettings, SlurmSettings
from trainshed.resources.preemption import StopWarning


def settings(**given: str) -> SlurmSettings:
    return SlurmSettings.parse({"directory": "/shared/trainshed", **given})


def submitted(options: dict[str, str] | None = None, given: dict[str, str] | None = None, **more: Any) -> list[str]:
    site = settings(**(given or {}))
    values: dict[str, Any] = {
        "name": "my job",
        "comment": comment("mark", "ticket"),
        "nodes": 2,
        "cpus": 4,
        "memory_mib": 8192,
        "gpus": 0,
        "minutes": 12,
        "priority": 0,
        "warning": None,
        "output": Path("/shared/trainshed/jobs/ticket/output.txt"),
    }
    return arguments(site, site.options(options or {}), **{**values, **more})


def test_a_usual_submission() -> None:
    assert submitted({"partition": "gpu", "constraint": "a100&ib"}) == [
        "--parsable",
        "--job-name=my-job",
        "--comment=trainshed:mark:ticket",
        "--nodes=2",
        "--requeue",
        "--open-mode=append",
        "--output=/shared/trainshed/jobs/ticket/output.txt",
        "--chdir=/",
        "--partition=gpu",
        "--constraint=a100&ib",
        "--exclusive",
        "--mem=0",
        "--time=12",
    ]


@pytest.mark.parametrize(
    ("more", "present", "absent"),
    [
        ({"options": {"exclusive": "no"}}, ["--cpus-per-task=4", "--mem=8192M"], ["--exclusive"]),
        ({"gpus": 2}, ["--gres=gpu:2"], []),
        ({"gpus": 2, "options": {"gres": "gpu:a100:2"}}, ["--gres=gpu:a100:2"], ["--gres=gpu:2"]),
        ({"minutes": None}, [], ["--time=12"]),
        ({"minutes": 10090}, ["--time=10090"], []),
        ({"priority": -1000}, ["--nice=1000"], []),
        ({"priority": 1000}, [], ["--nice=-1000"]),
        ({"priority": 1000, "given": {"operator": "yes", "nice": "50"}}, ["--nice=-50"], []),
        ({"warning": StopWarning("SIGUSR1", 30.0)}, ["--signal=B:USR2@30"], []),
        ({"given": {"cluster": "partition=gpu,account=ml"}}, ["--partition=gpu", "--account=ml"], []),
        (
            {"given": {"cluster": "partition=gpu"}, "options": {"partition": "big"}},
            ["--partition=big"],
            ["--partition=gpu"],
        ),
        (
            {"given": {"sbatch": "--mail-type=FAIL --hint=x"}},
            ["--mail-type=FAIL", "--hint=x"],
            [],
        ),
    ],
)
def test_what_changes_it(more: dict[str, Any], present: list[str], absent: list[str]) -> None:
    found = submitted(**more)
    assert set(present) <= set(found) and not set(absent) & set(found)


def test_an_array_says_what_is_its_own_anew() -> None:
    given = [submitted(name=f"fit-{n}", comment=comment("mark", f"t{n}")) for n in range(3)]
    made = array_arguments(given, comment("mark", "array-x"), Path("/shared/trainshed/arrays/array-x/output-%a.txt"))
    own = {
        "--job-name=fit",
        "--comment=trainshed:mark:array-x",
        "--output=/shared/trainshed/arrays/array-x/output-%a.txt",
        "--array=0-2",
    }
    assert made[0] == "--parsable" and own < set(made)
    assert len(made) == len(set(made)) == len(given[0]) + 1
    assert set(made) - own == {a for a in given[0] if not a.startswith(("--job-name=", "--comment=", "--output="))}


@pytest.mark.parametrize(
    ("more", "alike"),
    [
        ({"name": "another", "comment": "other"}, True),
        ({"output": Path("/elsewhere")}, True),
        ({"minutes": 13}, False),
        ({"options": {"partition": "gpu"}}, False),
        ({"priority": -1000}, False),
        ({"gpus": 1}, False),
    ],
)
def test_what_is_alike(more: dict[str, Any], alike: bool) -> None:
    assert (likeness(submitted(), "script", "cluster") == likeness(submitted(**more), "script", "cluster")) is alike
    assert likeness(submitted(), "script", "cluster") != likeness(submitted(), "another", "cluster")


@pytest.mark.parametrize(
    ("seconds", "most", "expected"),
    [
        (90.0, None, 12),
        (604800.0, 1440, 1440),
        (604800.0, None, 10090),
        (None, 60, 60),
        (None, None, None),
        (60.0, 5, 5),
    ],
)
def test_slurm_s_time_limit(seconds: float | None, most: int | None, expected: int | None) -> None:
    assert minutes(seconds, most) == expected


def test_the_script_is_one_that_bash_takes(tmp_path: Path) -> None:
    made = tmp_path / "with space"
    text = script(settings(setup="module() { export LOADED=$1; }; module load x"), made / "start.py", made / "ticket")
    made.mkdir()
    (made / "start.py").write_text("import os, sys; print(os.environ['LOADED'], sys.argv[1:])")
    done = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"load ['lead', '{made}/ticket']"


def test_the_script_from_afar_hands_the_token_on_by_standard_input_alone(tmp_path: Path) -> None:
    site = settings(directory="", report_to="[::1]:7077", python=sys.executable, node_directory=str(tmp_path))
    boot = "import os, sys; print(sys.argv[1:], input(), sorted(n for n in os.environ if 'TOKEN' in n))"
    text = script_from_afar(site, boot, "finger", "ticket", "digest")
    variables = {"PATH": os.environ["PATH"], TOKEN_VARIABLE: "t0ken"}
    done = subprocess.run(["bash", "-c", text], env=variables, capture_output=True, text=True, check=True)
    given = ["lead", "::1", "7077", "finger", "ticket", "digest", str(tmp_path)]
    assert (done.stdout.strip(), "t0ken" in text) == (f"{given} t0ken []", False)


@pytest.mark.parametrize(
    ("text", "name"), [("a job; rm -rf /", "a-job-rm--rf"), ("-x", "x"), ("…", "job"), ("a" * 100, "a" * 64)]
)
def test_names_of_jobs(text: str, name: str) -> None:
    assert job_name(text) == name


def test_only_the_own_comments_name_a_ticket() -> None:
    assert ticket_of(comment("mark", "ticket"), "mark") == "ticket"
    assert ticket_of(comment("other", "ticket"), "mark") == ""
    assert ticket_of("somebody's", "mark") == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"directory": "shared"}, "'directory' must be an absolute path"),
        ({"directory": "/a/../b"}, "'directory' must be an absolute path"),
        ({"directory": ""}, "needs 'directory', which this machine and all nodes see, or else 'report_to'"),
        ({"report_to": "head:7077"}, "needs 'directory', which"),
        ({"directory": "", "report_to": "head"}, "'report_to' must be HOST:PORT"),
        ({"directory": "", "report_to": "head:70777"}, "'report_to' must be HOST:PORT"),
        ({"directory": "", "report_to": "head:7077", "listen": "x"}, "'listen' must be HOST:PORT"),
        ({"lease": "0"}, "'lease' must be a number of seconds"),
        ({"queue": "x"}, "no setting 'queue'"),
        ({"ssh": "-oProxyCommand=x"}, "'ssh' must be a host"),
        ({"ports": "80-90"}, "'ports' must be FIRST-LAST"),
        ({"nice": "-5"}, "'nice' must be a number"),
        ({"operator": "perhaps"}, "'operator' must be yes or no"),
        ({"timeout": "0"}, "'timeout' must be a number of seconds"),
        ({"sbatch": "rm -rf"}, "'sbatch' must be arguments"),
        ({"python": "python3; x"}, "'python' must be"),
        ({"cluster": "gpu"}, "'cluster' must be NAME=VALUE"),
        ({"cluster": "queue=x"}, "no option 'queue'"),
        ({"cluster": "partition=-x"}, "cannot be '-x'"),
        ({"cluster": "mpi=openmpi"}, "'mpi' must be runners, or what 'srun --mpi=list' names"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        SlurmSettings.parse({"directory": "/shared", **given})


def test_the_kind_checks_each_setting_and_option_by_itself() -> None:
    checks = {option.name: option.check for option in (*KIND.settings, *KIND.cluster_options)}
    assert {name: check("yes") for name, check in checks.items() if name in ("partition", "operator")} == {
        "partition": None,
        "operator": None,
    }
    assert "absolute" in (checks["directory"]("here") or "")
    assert "yes or no" in (checks["exclusive"]("perhaps") or "")
    assert "letters, digits" in (checks["partition"]("a b") or "")
    assert [checks["mpi"](kind) for kind in ("runners", "pmix", "pmix_v4", "pmi2")] == [None] * 4
    assert "srun --mpi=list" in (checks["mpi"]("none") or "")


def test_who_starts_ranks_is_the_cluster_s_or_the_engine_s_word_and_not_sbatch_s() -> None:
    site = SlurmSettings.parse({"directory": "/shared", "cluster": "partition=cpu,mpi=pmix"})
    assert (site.options({}).mpi, site.options({"mpi": "pmi2"}).mpi, site.options({"mpi": "runners"}).mpi) == (
        "pmix",
        "pmi2",
        "",
    )
    assert site.options({}).sbatch == (("partition", "cpu"),)


@pytest.mark.parametrize(
    ("text", "count", "numbers"),
    [("2", 1, [2]), ("2(x3)", 3, [2, 2, 2]), ("4,2(x2),8", 4, [4, 2, 2, 8]), ("", 2, [1, 1]), ("3", 2, [3, 1])],
)
def test_processors_of_each_node(text: str, count: int, numbers: list[int]) -> None:
    assert per_node(text, count) == numbers
