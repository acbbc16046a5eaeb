"""Texts that tests compare with files: what people read is looked at by people, in the diff of a commit.

``pytest --update-snapshots`` writes the files anew.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest


class Snapshots:
    """The files of one folder."""

    def __init__(self, folder: Path, *, update: bool) -> None:
        self._folder = folder
        self._update = update

    def check(self, name: str, text: str) -> None:
        """Fails with the difference unless the file ``name`` holds this text."""
        path = self._folder / name
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        kept = path.read_text(encoding="utf-8") if path.exists() else ""
        if text != kept:
            lines = difflib.unified_diff(
                kept.splitlines(keepends=True), text.splitlines(keepends=True), f"{path.name} (kept)", "now"
            )
            pytest.fail(f"{''.join(lines)}\nIf it is as it should be: pytest --update-snapshots", pytrace=False)
