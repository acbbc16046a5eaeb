"""Who a server that is reached by SSH must be: its public key, as programs of SSH want to be told."""

from __future__ import annotations

#: How servers with an RSA key may prove it (RFC 8332); the type of other keys says it.
_RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")
DEFAULT_PORT = 22


def known_hosts_line(host: str, port: int, key: str) -> str:
    """A line of ``known_hosts`` (sshd(8)). ``key`` is its type and base64, perhaps with a comment."""
    bare = host.strip("[]")
    return f"{bare if port == DEFAULT_PORT else f'[{bare}]:{port}'} {key_of(key)}\n"


def key_of(key: str) -> str:
    """Without the comment."""
    return " ".join(key.split()[:2])


def algorithms(key: str) -> tuple[str, ...]:
    """Those by which the server can prove that it has the key, so that it is not asked for another of its keys."""
    kind = key.split()[0]
    return _RSA if kind == "ssh-rsa" else (kind,)
