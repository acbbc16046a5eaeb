"""What the processes of a job see of the machine's files when they run as a user of their own.

The machine's files are there, read-only. The service's home is not: an empty file system lies over it (or over the
first folder above it that is closed to others), with only the directories that the job needs, at their own paths.
``/tmp``, ``/var/tmp`` and ``/dev/shm`` are the job's own. What lies below cannot be uncovered: the mount namespace
belongs to the machine's root, and in a user namespace of the job its mounts are locked (mount_namespaces(7)).
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from functools import cache
from pathlib import Path

from trainshed.resources.users import JobUser
from trainshed.runner import linux, trees
from trainshed.runner.spec import View

#: What processes call themselves.
USER_NAME, ROOT_NAME = "job", "root"
#: Own directories of a job, and their names below ``View.private``.
_PRIVATE = (("/tmp", "tmp"), ("/var/tmp", "var-tmp"))
SHARED_MEMORY = "/dev/shm"
_FUSE = "/dev/fuse"
_FUSE_DEVICE = os.makedev(10, 229)
_PLAIN = linux.MS_NOSUID | linux.MS_NODEV


def prepare_private(view: View) -> None:
    """Make the directories behind ``/tmp`` and ``/var/tmp``, and empty them of what a former job left. OSError."""
    for target, name in _PRIVATE:
        folder = f"{view.private}/{name}"
        try:
            trees.empty(folder, _mount_points_below(target, view))
        except FileNotFoundError:
            Path(folder).mkdir(mode=0o755, parents=True)
        Path(folder).chmod(0o1777)


def build(view: View, files: dict[str, str], base: int | None = None, *, fuse: bool = False) -> None:
    """Enter a new mount namespace with this view, as the machine's root, in a process that is for this alone.

    ``files`` are laid over those of the machine (path -> file). ``base`` is the mount namespace of the node's setup,
    whose mounts are taken over; the view's own come on top. ``fuse``: mount commands may use FUSE. Raises OSError.
    """
    # The setup may have mounted things below the shared directory: then it is there already.
    shown = [(path, linux.clone_tree(path)) for path in (*([] if base is not None else [view.shared]), *view.shown)]
    private = [(target, linux.clone_tree(f"{view.private}/{name}")) for target, name in _PRIVATE]
    laid_over = [(target, linux.clone_tree(source)) for target, source in files.items()]
    cover = _cover(view)
    for _, tree in (*shown, *private, *laid_over):
        linux.restrict_mounts(tree, linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)
    for _, tree in laid_over:
        linux.restrict_mounts(tree, linux.MOUNT_ATTR_RDONLY)
    if base is not None:
        linux.enter_namespace(base, linux.CLONE_NEWNS)
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    # What the setup has there would be hidden by the attempt's own directories.
    covered = linux.clone_tree(cover) if base is not None else None
    if base is None:
        linux.restrict_mounts("/", linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID)
    _own_devices(view, fuse)
    for target, tree in private:
        linux.attach_tree(tree, target)
    Path(cover).mkdir(mode=0o755, exist_ok=True)
    if covered is not None:
        linux.attach_tree(covered, cover)
    else:
        linux.mount("none", cover, "tmpfs", _PLAIN | linux.MS_NOEXEC, "mode=0755,size=1m,nr_inodes=2048")
    for path, tree in shown:
        Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
        linux.attach_tree(tree, path)
    for target, tree in laid_over:
        with suppress(FileNotFoundError):  # a machine without such a file needs none of ours
            linux.attach_tree(tree, target)
    os.chdir("/")


def accounts(user: JobUser, home: str, folder: str) -> dict[str, str]:
    """Write ``passwd`` and ``group`` files that know the job's user into a folder; path of the machine's -> of ours."""
    written = {}
    for name, line in (
        ("passwd", f"{USER_NAME}:x:{user.uid}:{user.uid}:job:{home}:/bin/bash\n"),
        ("group", f"{USER_NAME}:x:{user.uid}:\n"),
    ):
        path = f"{folder}/{name}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        with open(descriptor, "w") as file:
            file.write(_machines(f"/etc/{name}") + line)
        written[f"/etc/{name}"] = path
    return written


@cache
def _machines(path: str) -> str:
    with suppress(OSError), open(path, errors="surrogateescape") as file:
        text = file.read()
        return text if not text or text.endswith("\n") else f"{text}\n"
    return ""


def _cover(view: View) -> str:
    """Where the empty file system lies: over the home, or over the first folder above that others may not enter."""
    home = Path(view.hidden)
    closed = next((str(path) for path in reversed(home.parents) if not path.stat().st_mode & 0o001), view.hidden)
    for target, _ in _PRIVATE:
        if closed.startswith(f"{target}/"):
            # So that nothing of ours but one mount point lies in the job's own directory.
            return "/".join(closed.split("/")[: target.count("/") + 2])
    return closed


def _mount_points_below(target: str, view: View) -> set[str]:
    """Names in a private directory that a view may have something mounted at."""
    below = (path for path in (view.hidden, view.shared, *view.shown) if path.startswith(f"{target}/"))
    return {path[len(target) + 1 :].split("/", 1)[0] for path in below}


def _own_devices(view: View, fuse: bool) -> None:
    node = -1
    if fuse and Path(_FUSE).exists():
        linux.mount("none", SHARED_MEMORY, "tmpfs", linux.MS_NOSUID, "mode=0755,size=64k")
        os.mknod(f"{SHARED_MEMORY}/fuse", 0o020666, _FUSE_DEVICE)
        Path(SHARED_MEMORY, "fuse").chmod(0o666)
        node = linux.clone_tree(f"{SHARED_MEMORY}/fuse")
        linux.unmount(SHARED_MEMORY)
        linux.attach_tree(node, _FUSE)
    size = f"{view.shm_mib}m" if view.shm_mib else "50%"
    linux.mount("none", SHARED_MEMORY, "tmpfs", _PLAIN, f"mode=1777,size={size}")


def machine_name(uid: int) -> str:
    """The account that has this id on the machine already, if any: a range of job users must be nobody's."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
