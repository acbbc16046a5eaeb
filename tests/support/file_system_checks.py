"""What a program may expect of a file system, tried on a mounted one. Run as ``python file_system_checks.py DIR``.

Further arguments name checks to leave out. Standard library only: it also runs in a guest. Prints what it tries, and
last one line with the figures, as JSON; fails by an AssertionError.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import mmap
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path


def create_and_modes(root: Path) -> None:
    descriptor = os.open(root / "exclusive", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    os.close(descriptor)
    assert (root / "exclusive").stat().st_mode & 0o7777 == 0o640
    try:
        os.open(root / "exclusive", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        raise AssertionError("O_EXCL made a file that was there")
    except FileExistsError:
        pass
    (root / "exclusive").chmod(0o600)
    assert (root / "exclusive").stat().st_mode & 0o7777 == 0o600
    (root / "folder").mkdir(0o750)
    assert (root / "folder").stat().st_mode & 0o7777 == 0o750
    (root / "folder").rmdir()


def append_overwrite_truncate(root: Path) -> None:
    path = root / "text"
    for number in range(3):
        with path.open("a") as file:
            file.write(f"{number}\n")
    assert path.read_text() == "0\n1\n2\n"
    with path.open("r+b") as binary:
        binary.seek(2)
        binary.write(b"X")
    assert path.read_text() == "0\nX\n2\n"
    os.truncate(path, 3)
    assert path.read_text() == "0\nX"
    with path.open("r+") as file:
        file.truncate(1)
    assert path.read_text() == "0"
    path.write_text("new")
    assert path.stat().st_size == 3


def rename_and_replace(root: Path) -> None:
    (root / "old").write_text("old")
    (root / "other").write_text("other")
    (root / "old").replace(root / "other")
    assert (root / "other").read_text() == "old"
    assert not (root / "old").exists()
    (root / "a" / "b").mkdir(parents=True)
    (root / "a").rename(root / "c")
    assert (root / "c" / "b").is_dir()


def links(root: Path) -> None:
    (root / "target").write_text("x")
    (root / "link").symlink_to("target")
    assert (root / "link").read_text() == "x"
    (root / "broken").symlink_to("/nowhere/äö")
    assert os.readlink(root / "broken") == "/nowhere/äö"  # noqa: PTH115 - the text itself
    os.link(root / "target", root / "hard")
    assert (root / "hard").stat().st_nlink == 2
    assert (root / "hard").stat().st_ino == (root / "target").stat().st_ino


def times(root: Path) -> None:
    path = root / "timed"
    path.write_text("")
    os.utime(path, (1000, 2000.5))
    assert (path.stat().st_atime, path.stat().st_mtime) == (1000, 2000.5)
    os.utime(path)
    assert abs(path.stat().st_mtime - time.time()) < 5


def removed_while_open(root: Path) -> None:
    with (root / "removed").open("w+") as file:
        file.write("abc")
        file.flush()
        (root / "removed").unlink()
        file.seek(0)
        assert file.read() == "abc"
    assert not (root / "removed").exists()


def many_names(root: Path) -> None:
    folder = root / "many"
    folder.mkdir()
    for number in range(300):
        (folder / f"file-{number:05d}-with-a-long-name").touch()
    assert len(os.listdir(folder)) == 300  # noqa: PTH208
    (folder / "file-00007-with-a-long-name").unlink()
    assert len(os.listdir(folder)) == 299  # noqa: PTH208
    try:
        folder.rmdir()
        raise AssertionError("a directory with files was removed")
    except OSError as error:
        assert error.errno in (errno.ENOTEMPTY, errno.EEXIST)
    (root / "with blank and ü").write_text("1")
    assert "with blank and ü" in os.listdir(root)  # noqa: PTH208
    try:
        (root / ("x" * 300)).touch()
        raise AssertionError("a name was too long and accepted")
    except OSError as error:
        assert error.errno == errno.ENAMETOOLONG


def locks_sync_and_maps(root: Path) -> None:
    # Not both on one file: to an NFS server they are the same kind of lock.
    for lock in (fcntl.flock, fcntl.lockf):
        with (root / f"locked-{lock.__name__}").open("w") as file:
            lock(file, fcntl.LOCK_EX)
            file.write("x")
            file.flush()
            os.fsync(file.fileno())
    with (root / "mapped").open("w+b") as binary:
        binary.truncate(8192)
        with mmap.mmap(binary.fileno(), 8192) as memory:
            memory[:3] = b"abc"
            memory.flush()
        assert binary.read(3) == b"abc"


def database(root: Path) -> None:
    connection = sqlite3.connect(root / "data.db")
    connection.execute("create table t(a)")
    connection.executemany("insert into t values(?)", [(number,) for number in range(500)])
    connection.commit()
    assert connection.execute("select sum(a) from t").fetchone() == (124750,)
    connection.close()


CHECKS: tuple[Callable[[Path], None], ...] = (
    create_and_modes,
    append_overwrite_truncate,
    rename_and_replace,
    links,
    times,
    removed_while_open,
    many_names,
    locks_sync_and_maps,
    database,
)


def throughput(root: Path, mib: int, files: int) -> dict[str, float]:
    """MB/s of one big file, seconds for small ones; what was read is what was written."""
    block = os.urandom(2**20)
    began = time.monotonic()
    with (root / "big").open("wb", buffering=0) as file:
        for _ in range(mib):
            file.write(block)
    written = time.monotonic()
    digest = hashlib.sha256()
    descriptor = os.open(root / "big", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    reading = time.monotonic()
    while part := os.read(descriptor, 2**20):
        digest.update(part)
    read = time.monotonic()
    os.close(descriptor)
    expected = hashlib.sha256()
    for _ in range(mib):
        expected.update(block)
    assert digest.digest() == expected.digest()
    (root / "small").mkdir()
    small = time.monotonic()
    for number in range(files):
        (root / "small" / str(number)).write_bytes(block[:4096])
    ended = time.monotonic()
    return {
        "write MB/s": round(mib / (written - began)),
        "read MB/s": round(mib / (read - reading)),
        f"{files} files s": round(ended - small, 2),
    }


def main() -> None:
    """All checks, in a directory of their own."""
    root = Path(sys.argv[1]) / f"checks-{os.getpid()}"
    root.mkdir()
    left_out = set(sys.argv[2:])
    for check in CHECKS:
        if check.__name__ in left_out:
            continue
        print(check.__name__, flush=True)
        try:
            check(root)
        except BaseException as error:
            error.add_note(f"in {check.__name__}")
            raise
    print("throughput", flush=True)
    print(json.dumps(throughput(root, 64, 200)), flush=True)


if __name__ == "__main__":
    main()
