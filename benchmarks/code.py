"""Sending code: a folder of 2,000 files, and the same again with one of them changed."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.service import Bench

FILES, SIZE = 2_000, 2_000


def report(bench: Bench) -> None:
    """Print the figures of this module."""
    with tempfile.TemporaryDirectory(prefix="trainshed-bench-code-") as name:
        folder = Path(name)
        for number in range(FILES):
            (folder / f"package{number % 20}").mkdir(exist_ok=True)
            (folder / f"package{number % 20}" / f"module{number}.py").write_text(f"# {number}\n" * (SIZE // 8))
        first, first_seconds = _send(bench, folder)
        (folder / "package0" / "module0.py").write_text("changed = True\n")
        second, second_seconds = _send(bench, folder)
        third, third_seconds = _send(bench, folder)
    print(f"code of {FILES} files")
    print(
        f"  at first {first} files sent, {first_seconds:.2f} s; one changed {second}, {second_seconds:.2f} s; "
        f"unchanged {third}, {third_seconds:.2f} s"
    )
    if (first, second, third) != (FILES, 1, 0):
        raise RuntimeError("files that the service has were sent again, or some were not sent")


def _send(bench: Bench, folder: Path) -> tuple[int, float]:
    began = time.perf_counter()
    sent = bench.client.code.upload(folder).sent
    return sent, time.perf_counter() - began
