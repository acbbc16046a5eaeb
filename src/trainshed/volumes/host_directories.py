"""hostDirectories: a directory of the machine, where the administrator allows it (host-directories.json).

What a path leads to counts, links resolved; it is then opened without following any, so that nothing that is changed
meanwhile leads elsewhere. File systems that are mounted below the directory are not in it.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from trainshed.resources.directories import join
from trainshed.resources.host_directories import FILE_NAME, AllowedDirectory
from trainshed.resources.volume_sources import VolumeSource
from trainshed.volumes.directory import MountedDirectory
from trainshed.volumes.protocol import Mounted, MountRequest
from trainshed.volumes.reading import DirectoryReader, Unreadable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def mount_host_directory(request: MountRequest) -> Mounted:
    """Raises VolumeError."""
    path = request.source.settings["path"]
    entries = [AllowedDirectory.from_json(entry) for entry in request.source.settings.get("allowed") or ()]
    real = os.path.realpath(path)
    allowed = allowing(real, entries)
    if allowed is None:
        what = "the administrator does not allow it" + (f", for it leads to {real}" if real != path else "")
        raise request.error(what, hint=how_to_allow(real))
    try:
        descriptor = open_below(os.path.realpath(allowed.path), real)
    except OSError as error:
        raise request.error(f"it cannot be opened: {error.strerror}", hint="Look whether it is a directory.") from error
    try:
        owner = _user(allowed.owner) if allowed.owner else None
    except KeyError:
        os.close(descriptor)
        hint = f"An administrator has to mend owner of '{allowed.path}' in {FILE_NAME}."
        raise request.error(f"the machine has no user '{allowed.owner}'", hint=hint) from None
    wants_reading = bool(request.source.settings.get("readOnly"))
    if allowed.read_only and not wants_reading:
        request.log(f"the {request.source.title} is read-only: the administrator allows no more")
    return MountedDirectory(descriptor, read_only=allowed.read_only or wants_reading, service_owned=False, owner=owner)


def open_host_directory(source: VolumeSource, inside: str) -> DirectoryReader:
    """For the service itself, with the rights of the owner whom the administrator named. Raises Unreadable."""
    real = os.path.realpath(source.settings["path"])
    entries = [AllowedDirectory.from_json(entry) for entry in source.settings.get("allowed") or ()]
    allowed = allowing(real, entries)
    if allowed is None:
        raise Unreadable(f"{source.title}: the administrator does not allow it")
    if not allowed.owner:
        raise Unreadable(f"{source.title} can be read on nodes only: {FILE_NAME} names no owner of '{allowed.path}'")
    try:
        is_the_owners = Path(real).stat().st_uid == _user(allowed.owner)[0]
    except (OSError, KeyError) as error:
        raise Unreadable(f"{source.title} cannot be opened: {error}") from error
    if not is_the_owners:
        raise Unreadable(f"{source.title} can be read on nodes only: it does not belong to {allowed.owner}")
    return DirectoryReader(join(real, inside), real, own=real)


def allowing(real: str, entries: Iterable[AllowedDirectory]) -> AllowedDirectory | None:
    """The innermost entry that a path without links is in."""
    found: tuple[int, AllowedDirectory] | None = None
    for entry in entries:
        root = os.path.realpath(entry.path)
        if root != "/" and PurePosixPath(real).is_relative_to(root) and (found is None or len(root) > found[0]):
            found = (len(root), entry)
    return found[1] if found else None


def open_below(root: str, real: str) -> int:
    """A descriptor of the directory, reached from ``root`` through no link. Raises OSError."""
    current = os.open(root, _FOLDER)
    for part in PurePosixPath(real).relative_to(root).parts:
        outer = current
        try:
            current = os.open(part, _FOLDER, dir_fd=outer)
        finally:
            os.close(outer)
    return current


def how_to_allow(path: str) -> str:
    """What an administrator would have to do."""
    return (
        f'An administrator can allow it in {FILE_NAME} in the service\'s home: {{"{path}": {{"readOnly": true}}}}, and '
        "restart the service."
    )


def _user(name: str) -> tuple[int, int]:
    """Raises KeyError."""
    found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    return found.pw_uid, found.pw_gid
