"""A progress bar on standard error, where that is a terminal; elsewhere nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """One line; ``clear`` before anything else is printed. ``in_bytes``: amounts are bytes, else files."""

    def __init__(self, *, in_bytes: bool = True) -> None:
        self._live = sys.stderr.isatty()
        self._in_bytes = in_bytes
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def show(self, what: str, done: int, total: int) -> None:
        """So much of ``what`` is there."""
        if not self._live:
            return
        from rich.markup import escape

        if self._progress is None:
            self._progress = _progress(self._in_bytes)
            self._task = self._progress.add_task(escape(what), total=total)
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, description=escape(what), completed=done, total=total)

    def clear(self) -> None:
        """Take the line away, before anything else is printed."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()


def _progress(in_bytes: bool) -> Progress:
    from rich import progress
    from rich.console import Console

    amount = progress.DownloadColumn() if in_bytes else progress.MofNCompleteColumn()
    speed = [progress.TransferSpeedColumn()] if in_bytes else []
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        amount,
        *speed,
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
