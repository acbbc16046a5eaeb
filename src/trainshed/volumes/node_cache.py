"""What the next jobs on a node can use again: folders that are locked while used, and removed when not used for long.

A folder is named after what it holds and who may see it: the same description, the same credentials and the same user
of the machine (which is one workspace's). Nobody else comes upon it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from trainshed.volumes.protocol import MountRequest

#: Seconds after which what nobody used is removed; and what was begun and never finished.
KEPT_SECONDS, UNFINISHED_SECONDS = 14 * 86_400.0, 3_600.0
#: Begins the names of folders that are being made or removed.
UNFINISHED = ".new-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_CONTENT = frozenset({"relativeMountPath", "cache", "readOnly", "revision"})


def name_for(request: MountRequest) -> str:
    """The folder's name. It tells nobody what the credentials are, who has not the node's own key."""
    source = request.source
    content = {name: value for name, value in source.settings.items() if name not in _NOT_CONTENT}
    own = {path: value for path, value in request.secrets.items() if path.startswith(f"{source.credentials}/")}
    told = json.dumps([source.kind, content, request.uid, [own[path] for path in sorted(own)]], sort_keys=True)
    return hmac.new(_key(Path(request.shared)), told.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def take(folder: Path, *, alone: bool) -> int | None:
    """An open descriptor of an existing folder that keeps it from being removed, and from others if ``alone``.

    None where there is none, or others use it. The caller closes it. Raises OSError.
    """
    try:
        descriptor = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        # It may have been removed between the two.
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            os.utime(descriptor)
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def remove_unused(parent: Path, kept_seconds: float = KEPT_SECONDS) -> None:
    """Remove folders that nobody uses and nobody used for so long. What cannot be removed stays."""
    with suppress(OSError):
        for folder in list(parent.iterdir()):
            unfinished = folder.name.startswith(UNFINISHED)
            age = time.time() - folder.lstat().st_mtime
            if age <= (UNFINISHED_SECONDS if unfinished else kept_seconds):
                continue
            descriptor = take(folder, alone=True)
            if descriptor is None:
                continue
            try:
                aside = folder if unfinished else folder.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
                if aside != folder:
                    folder.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
            finally:
                os.close(descriptor)


def _key(shared: Path) -> bytes:
    """The node's own, made when first needed."""
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = shared / "key"
    with suppress(FileExistsError):
        fresh = shared / f"{UNFINISHED}key-{secrets.token_hex(8)}"
        if not path.exists():
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, secrets.token_bytes(32))
                os.link(fresh, path)
            finally:
                os.close(descriptor)
                fresh.unlink()
    return path.read_bytes()
