"""``trainshed simulate``: reports, variations, plots, and what is wrong with what one gives it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.client.stub_service import EXPERIMENT, WORKSPACE, StubService, answer

TRACE = """submitted,runtime,nodes,limit,user
0,100,1,100,ann
1,50,2,50,bob
2,20,1,20,bob
"""


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "jobs.csv"
    path.write_text(TRACE)
    return str(path)


def test_a_report_is_a_table(trainshed: Run, trace: str) -> None:
    result = trainshed("simulate", trace, "--nodes", "2", "--compare", "backfill=off", "--price", "2")
    assert result.code == 0
    rows = {line[:20].strip(): line.split()[-2:] for line in result.out.splitlines()}
    assert result.out.splitlines()[0].split() == ["as", "given", "backfill=off"]
    assert rows["Jobs"] == ["3", "3"]
    assert rows["longest"] == ["99", "s"] or "99 s" in result.out
    assert rows["Backfilled"] == ["1", "0"]
    assert rows["Cost"] == ["0.17", "0.19"]
    assert "Pre-empted" not in result.out


def test_json_has_all_figures(trainshed: Run, trace: str) -> None:
    result = trainshed("simulate", trace, "--nodes", "2", "--compare", "nodes=3,fair-share=P7D", "-o", "json")
    found: dict[str, Any] = json.loads(result.out)
    first, second = found["scenarios"]
    assert found["trace"] == {"jobs": 3, "widest": 2, "seconds": 2.0, "skipped": {}}
    assert first["waitSeconds"]["longest"] == 99
    assert second["waitSeconds"]["longest"] == 0 or second["waitSeconds"]["longest"] < 99
    assert second["settings"]["nodes"] == 3
    assert second["settings"]["fairShare"] == 7 * 86_400


def test_a_compressed_trace_is_read_and_a_copy_kept(trainshed: Run, tmp_path: Path) -> None:
    path, copy = tmp_path / "jobs.csv.gz", tmp_path / "copy.swf"
    path.write_bytes(gzip.compress(TRACE.encode()))
    quiet = trainshed("simulate", str(path), "--nodes", "2", "--save-trace", str(copy), "-o", "quiet")
    assert quiet.out == "33.0\n"
    assert trainshed("simulate", str(copy), "--nodes", "2", "-o", "quiet").out == "33.0\n"


@pytest.mark.parametrize(("suffix", "begin"), [("svg", b"<svg "), ("png", b"\x89PNG")])
def test_plots(trainshed: Run, trace: str, tmp_path: Path, suffix: str, begin: bytes) -> None:
    if suffix == "png":
        pytest.importorskip("resvg_py", reason="PNG needs trainshed[plots]")
    target = tmp_path / f"waits.{suffix}"
    assert trainshed("simulate", trace, "--nodes", "2", "--plot", str(target)).code == 0
    assert target.read_bytes().startswith(begin)


def test_a_made_up_trace_can_be_played(trainshed: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "made.swf")
    arguments = ("--jobs", "50", "--nodes", "8", "--seed", "4")
    assert trainshed("simulate", "generate", *arguments, "--to", path).code == 0
    assert trainshed("simulate", path).code == 0, "the trace says how many nodes"
    first, again = (trainshed("simulate", "generate", *arguments).out for _ in range(2))
    assert first == again
    assert len(first.splitlines()) == 51


def job(name: str, cluster: str, minutes: int | None) -> dict[str, Any]:
    execution = {} if minutes is None else {"startTime": "2026-11-21T10:05:00Z"}
    if minutes:
        execution["endTime"] = f"2026-11-21T10:{5 + minutes:02}:00Z"
    about = {
        "creationTime": "2026-11-21T10:00:00Z",
        "nodeCount": 1,
        "executionState": "succeeded" if minutes else "running",
        "executionInfo": execution,
        "cluster": {"id": f"{WORKSPACE}/clusters/{cluster}"},
    }
    return {"id": f"{EXPERIMENT}/jobs/{name}", "name": name, "properties": about}


def test_the_services_history_is_played(trainshed: Run, stub: StubService) -> None:
    jobs = [job("a", "big", 10), job("b", "big", 10), job("c", "big", 0), job("d", "small", 10)]
    stub.on("GET", f"{WORKSPACE}/experiments", answer({"value": [{"id": EXPERIMENT, "name": "default"}]}))
    stub.on("GET", f"{EXPERIMENT}/jobs", answer({"value": jobs}))
    result = trainshed("simulate", "--history", "-c", "big", "--nodes", "1", "-o", "quiet")
    assert (result.code, result.out) == (0, "300.0\n")
    assert result.err == "left out: 1 job, still running\n"


def test_a_history_without_ended_jobs_cannot_be_played(trainshed: Run, stub: StubService) -> None:
    stub.on("GET", f"{WORKSPACE}/experiments", answer({"value": []}))
    result = trainshed("simulate", "--history", "--nodes", "2")
    assert result.code == 1
    assert "the service's history: there is no job in it that ran and ended" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["TRACE"], 2, "give --nodes (its widest job has 2)"),
        (["run"], 2, "give a trace's file, or --history"),
        (["TRACE", "--history", "--nodes", "2"], 2, "give a trace's file, or --history"),
        (["TRACE", "--nodes", "2", "--compare", "colour=red"], 2, "'colour=red' is not a change"),
        (["TRACE", "--nodes", "2", "--faults", "soon"], 2, "'soon' is not a duration"),
        (["TRACE", "--autoscale", "4"], 2, "'4' is not MIN:MAX"),
        (["TRACE", "--nodes", "2", "--plot", "waits.pdf"], 1, "waits.pdf: plots are written as .svg or .png"),
        (["TRACE", "--nodes", "2", "--plot", "nowhere/waits.svg"], 1, "the folder nowhere does not exist"),
        (["TRACE", "--nodes", "2", "--price", "STANDARD_NC6"], 1, "NoPrice: there is no"),
        (["TRACE", "--nodes", "2", "--price", "-1"], 2, "'-1' is no price of a node-hour"),
        (["missing.csv", "--nodes", "2"], 1, "missing.csv: No such file or directory"),
        (["TRACE", "--nodes", "2", "--format", "swf"], 1, "line 1: a job has 18 fields and this line has 1"),
    ],
)
def test_what_is_wrong_is_said(trainshed: Run, trace: str, arguments: list[str], code: int, said: str) -> None:
    result = trainshed("simulate", *(trace if argument == "TRACE" else argument for argument in arguments))
    assert result.code == code
    assert said in result.err


def test_a_price_comes_from_the_services_prices(trainshed: Run, trace: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "prices.json").write_text(
        '{"currency": "EUR", "sizes": {"STANDARD_NC6": {"dedicated": 36, "lowpriority": 9}}}'
    )
    result = trainshed("simulate", trace, "--nodes", "2", "--price", "STANDARD_NC6", "-o", "json")
    found = json.loads(result.out)["scenarios"][0]
    assert (found["cost"], found["currency"]) == (pytest.approx(3.0), "EUR")
    cheap = ("--price", "STANDARD_NC6", "--vm-priority", "lowpriority")
    assert trainshed("simulate", trace, "--nodes", "2", *cheap).out.splitlines()[-1].split() == ["Cost,", "EUR", "0.75"]
    missing = trainshed("simulate", trace, "--nodes", "2", "--price", "STANDARD_D1", "--vm-priority", "lowpriority")
    assert (missing.code, "has no lowpriority price of STANDARD_D1" in missing.err) == (1, True)


def test_a_note_says_where_the_default_limit_ends_jobs(trainshed: Run, tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("submitted,runtime,nodes\n0,8d,1\n")
    result = trainshed("simulate", str(path), "--nodes", "1")
    assert result.err == "1 job without a limit took longer than the default of 7d; --limit off lets them end\n"
    assert "ended by their limits" in result.out
    unlimited = trainshed("simulate", str(path), "--nodes", "1", "--limit", "off")
    assert (unlimited.err, "ended by their limits" in unlimited.out, "8.0 d" in unlimited.out) == ("", False, True)


def test_a_byte_order_mark_and_capitals_do_not_matter(trainshed: Run, tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(b"\xef\xbb\xbfSubmitted, Runtime ,NODES\r\n0,5,1\r\n0,1h30m,1\r\n")
    assert trainshed("simulate", str(path), "--nodes", "1", "-o", "quiet").out == "2.5\n"


def test_a_file_that_is_no_text_is_named(trainshed: Run, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"\x89PNG\xff\xfe")
    result = trainshed("simulate", str(path), "--nodes", "2")
    assert (result.code, "it is not text" in result.err) == (1, True)
