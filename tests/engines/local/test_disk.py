"""The disk guard: whom it ends, and when nobody is to blame."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from trainshed.engines.local import disk
from trainshed.engines.local.disk import DiskGuard, Writer, reserve, written
from trainshed.resources.reasons import Reason, ReasonCode

MIB = 2**20


def writer(root: Path, name: str, **changes: object) -> Writer:
    """An attempt with a node directory and a shared one."""
    for folder in (root / name, root / "shared" / name):
        folder.mkdir(parents=True, exist_ok=True)
    values = {
        "attempt_id": name,
        "folders": (root / name,),
        "shared": root / "shared",
        "segment": name,
        "processes": (),
        "since": time.time() - 1,
        "uid": os.geteuid(),
    }
    return Writer(**{**values, **changes})  # type: ignore[arg-type]


def fill(path: Path, mib: int) -> None:
    path.write_bytes(b"x" * (mib * MIB))
    os.sync()


def look(
    root: Path, writers: list[Writer], free: list[int], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, Reason]]:
    """Let the guard look as often as there are answers for the free space."""
    ended: list[tuple[str, Reason]] = []
    monkeypatch.setenv(disk.RESERVE_VARIABLE, "256M")
    looked = asyncio.Event()
    answers = iter(free)

    def answer(_home: Path) -> int:
        value = next(answers, None)
        if value is None:
            looked.set()
            return free[-1]
        return value

    monkeypatch.setattr(disk, "free", answer)

    async def whole() -> None:
        guard = DiskGuard(
            root, lambda: [] if looked.is_set() else writers, lambda name, reason: ended.append((name, reason))
        )
        guard.watch()
        async with asyncio.timeout(20):
            await looked.wait()

    asyncio.run(whole())
    return ended


def test_the_one_that_wrote_most_is_ended_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = writer(tmp_path, "small"), writer(tmp_path, "large")
    fill(tmp_path / "small/file", 17)
    fill(tmp_path / "shared/large/file", 40)
    ended = look(tmp_path, [small, large], [300 * MIB, 200 * MIB, 190 * MIB, 180 * MIB], monkeypatch)
    assert [name for name, _ in ended] == ["large"]
    reason = ended[0][1]
    assert reason.code is ReasonCode.JOB_DISK_LIMIT_EXCEEDED
    assert reason.details["reserveMiB"] == "256" and int(reason.details["writtenMiB"]) >= 40


def test_who_wrote_little_is_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = writer(tmp_path, "one")
    fill(tmp_path / "one/file", 2)
    assert look(tmp_path, [one], [10 * MIB] * 4, monkeypatch) == []


def test_room_enough_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "written", lambda *_: pytest.fail("it was measured"))
    assert look(tmp_path, [writer(tmp_path, "one")], [400 * MIB] * 2, monkeypatch) == []


def test_what_counts(tmp_path: Path) -> None:
    """Not what others own, what was there before, what a link leads to, or another attempt's."""
    one = writer(tmp_path, "one")
    fill(tmp_path / "one/file", 3)
    (tmp_path / "outside").mkdir()
    fill(tmp_path / "outside/large", 9)
    (tmp_path / "one/link").symlink_to(tmp_path / "outside")
    fill(tmp_path / "shared/other", 5)
    (tmp_path / "shared/two").mkdir()
    fill(tmp_path / "shared/two/file", 7)
    assert written(one, {"two"}) // MIB == 8
    assert written(writer(tmp_path, "one", uid=os.geteuid() + 1), set()) == 0
    assert written(writer(tmp_path, "one", since=time.time() + 60), set()) == 0


def test_files_without_a_name_count_while_they_are_open(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        descriptor = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
        os.write(descriptor, b"x" * (6 * MIB))
        os.fsync(descriptor)
        Path(tmp_path, "ready").touch()
        os.read(reading, 1)
        os._exit(0)
    try:
        until = time.monotonic() + 20
        while not (tmp_path / "ready").exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert written(writer(tmp_path, "one", processes=(os.getpid(),)), set()) // MIB == 6
    finally:
        os.close(writing)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("text", "expected"), [("512M", 512 * MIB), ("1g", 1024 * MIB), ("100", 100), ("2 GiB", 2048 * MIB), ("0", 0)]
)
def test_reserve_is_configurable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    monkeypatch.setenv(disk.RESERVE_VARIABLE, text)
    assert reserve(tmp_path) == expected


@pytest.mark.parametrize("text", ["", "much", "-1", "1.5G"])
def test_reserve_by_default_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(disk.RESERVE_VARIABLE, text)
    assert 256 * MIB <= reserve(tmp_path) <= 2048 * MIB
