"""Sending code and data: a folder of 2,000 files, and the same again with one of them changed; one large file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.service import Bench

FILES, SIZE = 2_000, 2_000
#: Bytes of the large file.
LARGE = 200 << 20


def report(bench: Bench) -> None:
    """Print the figures of this module."""
    with tempfile.TemporaryDirectory(prefix="trainshed-bench-code-") as name:
        folder = Path(name)
        for number in range(FILES):
            (folder / f"package{number % 20}").mkdir(exist_ok=True)
            (folder / f"package{number % 20}" / f"module{number}.py").write_text(f"# {number}\n" * (SIZE // 8))
        data = [_seconds(lambda: bench.client.storage_files.upload(folder, _account(bench), "data")) for _ in range(2)]
        with (folder / "large.bin").open("wb") as large:
            for _ in range(LARGE >> 20):
                large.write(os.urandom(1 << 20))
        big = [
            _seconds(lambda: bench.client.storage_files.upload(folder / "large.bin", _account(bench), "data"))
            for _ in range(2)
        ]
        (folder / "large.bin").unlink()
        first, first_seconds = _send(bench, folder)
        (folder / "package0" / "module0.py").write_text("changed = True\n")
        second, second_seconds = _send(bench, folder)
        third, third_seconds = _send(bench, folder)
    print(f"code of {FILES} files")
    print(
        f"  at first {first} files sent, {first_seconds:.2f} s; one changed {second}, {second_seconds:.2f} s; "
        f"unchanged {third}, {third_seconds:.2f} s"
    )
    print(f"data of {FILES} files: at first {data[0]:.2f} s, unchanged {data[1]:.2f} s")
    print(
        f"data of {LARGE >> 20} MiB in one file: at first {big[0]:.2f} s, unchanged {big[1]:.2f} s (hashed here only)"
    )
    if (first, second, third) != (FILES, 1, 0):
        raise RuntimeError("files that the service has were sent again, or some were not sent")


def _send(bench: Bench, folder: Path) -> tuple[int, float]:
    began = time.perf_counter()
    sent = bench.client.code.upload(folder).sent
    return sent, time.perf_counter() - began


def _account(bench: Bench) -> str:
    return bench.client.storage_accounts.create("benchdata").name


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
