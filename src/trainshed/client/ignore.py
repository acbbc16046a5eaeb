"""Which files of a folder are its code: ``.trainshedignore`` if there is one, else ``.gitignore`` (git's rules)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".trainshedignore"
#: Never code, whatever the ignore file says.
ALWAYS_SKIPPED = frozenset(
    {".git", ".hg", ".svn", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
)


@dataclass(frozen=True, slots=True)
class CodeFile:
    """A file to be sent: its path in the folder with ``/``, and where it is."""

    path: str
    source: Path
    executable: bool


def data_files(folder: Path, *, skip: Sequence[Path] = ()) -> Iterator[CodeFile]:
    """The folder's files, in order of path, but for what ``.trainshedignore`` names.

    Git's own ignore files do not count: data is what they leave out most often. For the rest as ``code_files``.
    """
    for file in _walk(folder, "", IGNORE_FILE, [], {path.resolve() for path in skip}):
        if file.source.name != IGNORE_FILE:
            yield file


def code_files(folder: Path, *, skip: Sequence[Path] = ()) -> Iterator[CodeFile]:
    """The folder's code, in order of path. ``skip``: directories left out wherever they are (the service's home).

    An ignore file in a sub-folder holds below it and is asked first, as git does. Links to files are sent as the
    files they lead to; links to folders are not followed.
    """
    name = IGNORE_FILE if (folder / IGNORE_FILE).is_file() else ".gitignore"
    skipped = {path.resolve() for path in skip}
    yield from _walk(folder, "", name, [], skipped)


def _walk(
    folder: Path, prefix: str, ignore_name: str, specs: list[tuple[str, GitIgnoreSpec]], skipped: set[Path]
) -> Iterator[CodeFile]:
    ignore_file = folder / ignore_name
    if ignore_file.is_file():
        from pathspec import GitIgnoreSpec

        lines = ignore_file.read_text(encoding="utf-8", errors="replace").splitlines()
        specs = [*specs, (prefix, GitIgnoreSpec.from_lines(lines))]
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = prefix + entry.name
        if entry.name in ALWAYS_SKIPPED:
            continue
        if entry.is_dir(follow_symlinks=False):
            inside = Path(entry.path)
            if inside.resolve() not in skipped and not _ignored(f"{path}/", specs):
                yield from _walk(inside, f"{path}/", ignore_name, specs, skipped)
        elif entry.is_file() and not _ignored(path, specs):
            yield CodeFile(path, Path(entry.path), bool(entry.stat().st_mode & 0o111))


def _ignored(path: str, specs: list[tuple[str, GitIgnoreSpec]]) -> bool:
    for prefix, spec in reversed(specs):
        verdict = spec.check_file(path[len(prefix) :]).include
        if verdict is not None:
            return verdict
    return False
