"""``trainshed storage upload``, ``files`` and ``download``: where they look, what they ask, what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.client.stub_service import StubService, answer

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"
ACCOUNTS = f"{SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts"
TEAM = f"{SUBSCRIPTION}/resourceGroups/team/providers/Microsoft.Storage/storageAccounts/mydata"
SHARE = f"{TEAM}/services/files/volumes/training"


@pytest.fixture
def shared(stub: StubService) -> StubService:
    """Account ``mydata`` in the group ``team``; the folder has two files, of which the share has one and an old one."""
    stub.on("GET", ACCOUNTS, answer({"value": [{"id": TEAM, "name": "mydata"}]}))
    stub.on("POST", f"{SHARE}/missing", answer({"missing": ["b"]}))
    stub.on("POST", f"{SHARE}/content", answer({"files": 1}))
    stub.on("POST", f"{SHARE}/remove", answer({"removed": 1}))
    old = {"name": "old", "fileType": "file", "properties": {"contentLength": 1}}
    stub.on("GET", f"{SHARE}/content", answer({"value": [{**old, "name": "a"}, old]}))
    Path("data").mkdir()
    Path("data/a").write_text("aa")
    Path("data/b").write_text("bbb")
    return stub


def test_upload_finds_the_account_and_says_what_travelled(trainshed: Run, shared: StubService) -> None:
    result = trainshed("storage", "upload", "data", "mydata/training")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1].split() == ["mydata/training", "2", "5", "B", "1", "3", "B", "0"]
    assert len(shared.requests("POST", f"{SHARE}/content")) == 1
    told = json.loads(trainshed("storage", "upload", "data", "mydata/training", "-o", "json").out)
    assert told == {
        "account": "mydata", "share": "training", "path": "", "files": 2, "size": 5, "sent": ["b"], "sentSize": 3,
        "removed": [],
    }  # fmt: skip
    assert trainshed("storage", "upload", "data", "mydata/training", "-o", "quiet").out == "b\n"


def test_a_dry_run_sends_nothing(trainshed: Run, shared: StubService) -> None:
    result = trainshed("storage", "upload", "data", "mydata/training", "--dry-run", "--delete")
    assert [line.split() for line in result.out.splitlines()[2:]] == [["send", "b", "3", "B"], ["remove", "old"]]
    shown = trainshed("storage", "upload", "data", "mydata/training", "--dry-run", "-o", "json").out
    assert json.loads(shown)["dryRun"] is True
    assert shared.requests("POST", f"{SHARE}/content") == []
    assert shared.requests("POST", f"{SHARE}/remove") == []


def test_what_is_only_there_is_removed_after_a_yes(trainshed: Run, shared: StubService) -> None:
    refused = trainshed("storage", "upload", "data", "mydata/training", "--delete")
    assert (refused.code, "ConfirmationRequired" in refused.err) == (1, True)
    assert "Remove 1 file (old) from mydata/training?" in refused.err
    assert shared.requests("POST", f"{SHARE}/content") == []
    assert trainshed("storage", "upload", "data", "mydata/training", "--delete", "-y").code == 0
    (removed,) = shared.requests("POST", f"{SHARE}/remove")
    assert removed.json() == {"paths": ["old"]}
    assert trainshed("storage", "upload", "data/a", "mydata/training", "--delete").code == 2


def test_files_lists_a_folder(trainshed: Run, shared: StubService) -> None:
    result = trainshed("storage", "files", "mydata/training/d/e")
    assert [line.split()[:2] for line in result.out.splitlines()[2:]] == [["a", "file"], ["old", "file"]]
    (asked,) = shared.requests("GET", f"{SHARE}/content")
    assert asked.query["directory"] == "d/e"


@pytest.mark.parametrize("place", ["mydata", "/mydata/x", "mydata/"])
def test_a_place_needs_account_and_share(trainshed: Run, place: str) -> None:
    Path("data").mkdir()
    result = trainshed("storage", "upload", "data", place)
    assert result.code == 2
    assert "ACCOUNT/SHARE" in result.err


@pytest.mark.parametrize("command", ["upload", "files", "download"])
def test_help_has_examples(trainshed: Run, command: str) -> None:
    shown = trainshed("storage", command, "--help").out
    assert "Examples:" in shown
    assert f"  trainshed storage {command} " in shown
