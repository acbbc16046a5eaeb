"""mountOptions of azureBlobFileSystems, written for blobfuse: what each means here, or that it is refused."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

#: How the kernel and blobfuse talked to each other, where the cache lay, what was logged: seen to otherwise here.
_WITHOUT_EFFECT = frozenset(
    {
        "allow_other", "allow_root", "auto_unmount", "big_writes", "default_permissions", "entry_timeout", "fsname",
        "gid", "kernel_cache", "large_read", "log-level", "max_background", "max_read", "max_readahead", "max_write",
        "negative_timeout", "nonempty", "noauto", "rw", "subtype", "tmp-path", "uid",
    }
)  # fmt: skip


class RefusedOption(ValueError):
    """An option that cannot be honoured; the message names it."""


@dataclass(frozen=True, slots=True)
class BlobOptions:
    """What mountOptions ask for."""

    read_only: bool = False
    https: bool = True
    umask: int = 0
    #: Seconds for which the kernel may keep attributes; and for which a file may stay in the cache.
    attr_timeout: int | None = None
    cache_seconds: int | None = None


def parse_options(text: str) -> BlobOptions:
    """Read them. Raises RefusedOption."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RefusedOption(f"cannot be read: {error}") from error
    found = BlobOptions()
    waiting = iter(words)
    for word in waiting:
        if word == "-o":
            given = next(waiting, "").split(",")
        elif word.startswith("-o"):
            given = word[2:].split(",")
        elif word.startswith("--"):
            given = [word[2:]]
        else:
            raise RefusedOption(f"have '{word}', which is no option")
        for one in given:
            found = _with(found, one)
    return found


def _with(found: BlobOptions, option: str) -> BlobOptions:
    name, _, value = option.partition("=")
    if name in _WITHOUT_EFFECT or not name:
        return found
    if name in ("ro", "read-only"):
        return replace(found, read_only=value.lower() != "false")
    if name == "use-https":
        return replace(found, https=value.lower() != "false")
    try:
        if name == "umask":
            return replace(found, umask=int(value, 8) & 0o777)
        if name in ("attr_timeout", "attr-timeout"):
            return replace(found, attr_timeout=int(float(value)))
        if name in ("file-cache-timeout-in-seconds", "file-cache-timeout"):
            return replace(found, cache_seconds=int(value))
    except ValueError:
        raise RefusedOption(f"have '{option}', whose value is no number") from None
    raise RefusedOption(f"have '{name}', which Trainshed does not know or decides itself")
