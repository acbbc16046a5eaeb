"""SHA-256 hashes as requests name content by them."""

from __future__ import annotations

import re

from trainshed.api.errors import invalid_value

_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_sha256(text: object, target: str) -> str:
    """The hash, if it is one. Raises ApiError 400."""
    if isinstance(text, str) and _SHA256.fullmatch(text):
        return text
    raise invalid_value(target, f"{str(text)[:100]!r} is not a SHA-256. Give 64 hexadecimal digits in lower case.")
