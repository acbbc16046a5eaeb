"""The list of a job's logs in 2026-11-01, and reading those of the ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.service import JOB, NEW, OLD, Service
from tests.api.test_logs import append, finish
from trainshed.resources import joblogs
from trainshed.resources.joblogs import LogSource

pytestmark = pytest.mark.slow

LOGS = f"{JOB}/logs"


@pytest.fixture
def folder(shed: Service) -> Path:
    """stdouterr of the running job ``j``: rank 1 of an MPI job has spoken."""
    folder = shed.stdouterr(shed.make_job())
    (folder / "ranks").mkdir()
    shed.controller.provision(count=1)
    shed.controller.start(["tvm-1_0-20180606t210834z"])
    sources = [
        LogSource("stdout.txt", "stdout", "master", 0, None, "c-0", "tvm-0"),
        LogSource("ranks/stdout-1.txt", "stdout", "rank", 1, 1, "c-0", "tvm-0"),
    ]
    append(folder / joblogs.list_file(0), joblogs.list_text(sources).encode())
    append(folder / joblogs.times_file(0), b"1000 3 ranks/stdout-1.txt\n")
    append(folder / "ranks/stdout-1.txt", b"one\ntwo\n")
    append(folder / "stdout.txt", b"")
    append(folder / "model.bin", b"x")
    return folder


def test_logs_have_rank_node_stream_and_size(shed: Service, folder: Path) -> None:
    told = shed.send("GET", LOGS, version=NEW).json()
    assert told["complete"] is False
    rank, master = told["value"]
    assert rank.pop("lastModified").endswith("Z")
    assert rank == {
        "name": "ranks/stdout-1.txt", "stream": "stdout", "role": "rank", "index": 1, "size": 8, "rank": 1,
        "node": "c-0", "nodeId": "tvm-0", "times": "ranks/times-0.txt", "timesSize": 26,
    }  # fmt: skip
    assert (master["name"], master["role"], "rank" in master) == ("stdout.txt", "master", False)


def test_a_finished_jobs_logs_are_complete(shed: Service, folder: Path) -> None:
    finish(shed)
    assert shed.send("GET", LOGS, version=NEW).json()["complete"] is True


def test_a_job_without_logs_has_an_empty_list(shed: Service) -> None:
    shed.make_job()
    assert shed.send("GET", LOGS, version=NEW).json() == {"value": [], "complete": False}


def test_a_ranks_log_is_read_by_its_name(shed: Service, folder: Path) -> None:
    assert shed.send("GET", f"{LOGS}/ranks/stdout-1.txt", version=NEW, offset=4).content == b"two\n"
    assert shed.send("GET", f"{LOGS}/ranks%2Fstdout-1.txt", version=NEW, length=3).content == b"one"


@pytest.mark.parametrize("follow", ["true", "false"])
def test_no_more_than_the_length_that_was_asked_for(shed: Service, folder: Path, follow: str) -> None:
    asked = shed.send("GET", f"{LOGS}/ranks/stdout-1.txt", version=NEW, offset=1, length=4, follow=follow)
    assert asked.content == b"ne\nt"


@pytest.mark.parametrize("name", ["ranks/../../x", "ranks/nothing.txt", "ranks", "ranks/link"])
def test_nothing_else_is_reached(shed: Service, folder: Path, name: str) -> None:
    (folder / "ranks/link").symlink_to("/etc/passwd")
    assert shed.send("GET", f"{LOGS}/{name.replace('..', '%2e%2e')}", version=NEW).status_code in (400, 404)


def test_a_link_out_of_the_volume_is_not_listed(shed: Service, folder: Path) -> None:
    (folder / "ranks/stdout-2.txt").symlink_to("/etc/passwd")
    (folder / joblogs.list_file(1)).symlink_to("/etc/passwd")
    names = [log["name"] for log in shed.send("GET", LOGS, version=NEW).json()["value"]]
    assert names == ["ranks/stdout-1.txt", "stdout.txt"]


def test_the_original_version_has_no_such_list(shed: Service, folder: Path) -> None:
    assert shed.send("GET", LOGS, version=OLD).status_code == 400


def test_no_such_job(shed: Service) -> None:
    shed.make_job()
    assert shed.send("GET", f"{JOB}x/logs", version=NEW).status_code == 404
