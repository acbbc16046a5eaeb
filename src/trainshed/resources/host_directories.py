"""Directories of the machine that jobs may mount: the administrator's ``host-directories.json``; none without it.

An object with an entry for each directory, which counts for all below it too: ``{"/data/imagenet": {}, "/scratch":
{"readOnly": false, "owner": "alice"}}``. Jobs can only read unless ``readOnly`` is false. Without ``owner`` the files
keep the rights that they have on the machine, so jobs can do what others may; with it, what belongs to that user there
is the job's own, and what jobs write belongs to that user.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: The file's name in the service's home.
FILE_NAME = "host-directories.json"


class InvalidHostDirectories(ValueError):
    """The file's content cannot be used; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class AllowedDirectory:
    """A directory that jobs may mount, with all below it."""

    path: str
    read_only: bool = True
    #: A user of the machine, by name or number; empty: files keep their owners.
    owner: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the wire."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AllowedDirectory:
        """Read what ``to_json`` gave."""
        return cls(**data)


def read_host_directories(text: str) -> tuple[AllowedDirectory, ...]:
    """Read the file. Raises InvalidHostDirectories."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidHostDirectories(f"it is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidHostDirectories('it is no JSON object such as {"/data": {"readOnly": true}}')
    return tuple(_allowed(path, entry) for path, entry in data.items())


def _allowed(path: str, entry: Any) -> AllowedDirectory:
    if not path.startswith("/") or ".." in path.split("/") or posixpath.normpath(path) in ("/", "//"):
        raise InvalidHostDirectories(f"'{path}' is not a directory's absolute path without '..'")
    if not isinstance(entry, dict):
        raise InvalidHostDirectories(f"'{path}' has no object; write {{}} for what may be read only")
    if unknown := sorted(entry.keys() - {"readOnly", "owner"}):
        raise InvalidHostDirectories(f"'{path}' has '{unknown[0]}'; it can have readOnly and owner")
    read_only, owner = entry.get("readOnly", True), entry.get("owner", "")
    if not isinstance(read_only, bool):
        raise InvalidHostDirectories(f"readOnly of '{path}' is neither true nor false")
    if not isinstance(owner, str):
        raise InvalidHostDirectories(f"owner of '{path}' is not a user's name or number in quotes")
    if owner in ("root", "0"):
        raise InvalidHostDirectories(f"owner of '{path}' is root, whose files no job may write. Name another user")
    return AllowedDirectory(posixpath.normpath(path), read_only, owner)
