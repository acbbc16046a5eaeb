"""Room on the service's disk for what is sent: beyond what the service keeps free for itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from trainshed.api.errors import ApiError
from trainshed.api.services import Services

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_room(services: Services, size: int) -> None:
    """Raises ApiError 507 when ``size`` more bytes do not fit."""
    facts = os.statvfs(services.home)
    left = facts.f_bavail * facts.f_frsize - services.disk_reserve
    if size > left:
        raise _no_room(f"{max(left, 0):,} bytes can be taken, {size:,} were to be written")


@contextmanager
def disk_errors() -> Iterator[None]:
    """A disk that is full while it is written to: raises ApiError 507."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(str(error.strerror)) from None
        raise


def _no_room(why: str) -> ApiError:
    return ApiError(
        507,
        "InsufficientStorage",
        f"The disk of the service has no room for this: {why}. What was sent before is kept, of this nothing is. "
        "Remove files that are no longer needed, or give the service a larger disk; then send again what is missing.",
        # What was not read cannot be told from the next request.
        headers={"Connection": "close"},
    )
