"""Who is calling: one administrator token, made at the first start and kept in ``admin.token``."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from trainshed.identity.private_files import UnsafeSecretFile, read_or_create

_SHAPE = re.compile(rb"[!-~]{16,512}")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that the service accepts."""

    admin: str = field(repr=False)

    @classmethod
    def load_or_create(cls, home: Path) -> Tokens:
        """Read ``{home}/admin.token``, making it (mode 0600) where there is none.

        Raises UnsafeSecretFile when others can read the file, or when it holds no token.
        """
        path = home / "admin.token"
        content = read_or_create(path, lambda: secrets.token_urlsafe(32).encode() + b"\n").strip()
        if not _SHAPE.fullmatch(content):
            raise UnsafeSecretFile(
                f"{path} holds no usable token (16 to 512 printable characters): remove it, a new one is made at the "
                "next start"
            )
        return cls(content.decode("ascii"))

    def accepts(self, token: str) -> bool:
        """Whether the token is the administrator's; takes as long for every token of the same length."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self.admin.encode("ascii"))
