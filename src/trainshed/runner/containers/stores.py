"""Where images of containers lie on a machine."""

from __future__ import annotations

import os
from pathlib import Path

from trainshed.resources.users import JobUser

#: Other image stores of the machine, in which images are looked for: paths, colon-separated.
STORES_VARIABLE = "TRAINSHED_IMAGE_STORES"
_MACHINES_STORE = "/var/lib/containers/storage"


def of(images: str, user: JobUser | None) -> tuple[str, ...]:
    """The store that images are fetched into, made if need be, and those that are only looked into. Raises OSError.

    Each workspace whose jobs have a user of their own has a store of its own: an image that one may fetch with its
    credentials is not for the others.
    """
    own = Path(images, "shared" if user is None else str(user.uid))
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (str(own), *_others(trusted=user is None))


def _others(*, trusted: bool) -> list[str]:
    """Those that the administrator names; else the machine's own, for jobs that run as whoever filled it."""
    named = os.environ.get(STORES_VARIABLE)
    paths = named.split(":") if named is not None else [_MACHINES_STORE] if trusted else []
    return [path for path in paths if path and Path(path, "overlay-images").is_dir()]
