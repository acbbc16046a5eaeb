"""What can go wrong before a container stands, in words: the meaning, the runtime's own message, a way out."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Pattern in a runtime's message -> what it means, and what to do. The first that is found counts.
_MEANINGS = (
    (
        r"unauthorized|authentication required|invalid username/password|incorrect username or password|"
        r"no basic auth credentials",
        "the registry refuses the credentials, or wants some",
        "Check imageSourceRegistry.credentials (username and password) and that they may pull this image.",
    ),
    (
        r"no image found in (?:manifest list|image index)|no matching manifest for|exec format error",
        "there is no such image for this node's architecture",
        "Push the image for the node's architecture, or name another tag.",
    ),
    (
        r"does not match|did not match|digest mismatch|verification failed",
        "the image is not the one that the digest names",
        "Name the digest that the registry has now, or a tag.",
    ),
    (
        r"no space left|disk quota exceeded",
        "there is no room for the image on the node",
        "Make room on the disk of the service's home, or use a smaller image.",
    ),
    (
        r"not supported over|overlay(?:fs)? (?:is not|not) supported|does not support overlay|without d_type|"
        r"not a supported overlay|backing file system is unsupported",
        "podman cannot keep images below the service's home: overlay file systems cannot be made on its disk",
        "Put the home (TRAINSHED_HOME) on ext4, xfs with ftype=1 or btrfs; in a container, on a volume of it.",
    ),
    (
        r"connection refused|no such host|i/o timeout|deadline exceeded|network is unreachable|no route to host|"
        r"pinging container registry|server gave HTTP response|tls: |x509: |connection reset|EOF",
        "the registry cannot be reached",
        "Check imageSourceRegistry.serverUrl, and that the registry answers from the node.",
    ),
    (
        r"manifest unknown|name unknown|not found|repository does not exist|access to the resource is denied|"
        r"image not known|unknown: ",
        "the registry has no such image, or shows it only to those who sign in",
        "Check the image's name and tag, and imageSourceRegistry.serverUrl and credentials.",
    ),
)
#: Noise around the runtime's message.
_NOISE = re.compile(
    r"time=\"[^\"]*\" level=\w+ msg=|^Error: |^Trying to pull .*$|^(?:Getting|Copying|Writing) .*$", re.M
)
_LENGTH = 600


class ContainerError(Exception):
    """No container can be had: what is wrong, and what to do. Sentences for people, without secrets."""

    def __init__(self, what: str, way_out: str, said: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.way_out = way_out
        #: The runtime's own words.
        self.said = said


def explain(said: str, secrets: Iterable[str] = ()) -> ContainerError:
    """What a runtime's message means; the secrets are blotted out of it."""
    text = tidy(said, secrets)
    for pattern, what, way_out in _MEANINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return ContainerError(what, way_out, text)
    return ContainerError("the container runtime failed", "Try the image on the node by hand.", text)


def tidy(said: str, secrets: Iterable[str] = ()) -> str:
    """The last lines of a message, in one line, without noise and secrets."""
    for secret in secrets:
        if secret:
            said = said.replace(secret, "***")
    lines = [line.strip() for line in _NOISE.sub("", said).splitlines() if line.strip()]
    return " ".join(dict.fromkeys(lines))[-_LENGTH:]
