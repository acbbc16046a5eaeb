"""s3Buckets: Amazon S3 and what speaks its protocol, by rclone. Files become visible to others when they are closed."""

from __future__ import annotations

from trainshed.volumes.protocol import Mounted, MountRequest
from trainshed.volumes.rclone import Look, Remote
from trainshed.volumes.read_cache import mount_cached


def mount_bucket(request: MountRequest) -> Mounted:
    """Raises VolumeError."""
    read_only = bool(request.source.settings.get("readOnly"))
    # When a file was changed costs a request for each unless the time of its upload will do.
    return mount_cached(
        request,
        remote_of(request),
        Look(read_only=read_only, options=("--use-server-modtime",) if read_only else ()),
    )


def remote_of(request: MountRequest) -> Remote:
    """Where rclone finds it (rclone.org/s3). Raises VolumeError."""
    settings = request.source.settings
    endpoint, credentials = settings.get("endpoint"), settings.get("credentials")
    told = {
        "provider": settings.get("provider") or ("Other" if endpoint else "AWS"),
        # Nothing of the service's own: no variables, files or roles of the machine.
        "env_auth": "false",
        "no_check_bucket": "true",
        # Directories are there although they are empty.
        "directory_markers": "true",
    }
    if endpoint:
        told["endpoint"] = endpoint
    if settings.get("region"):
        told["region"] = settings["region"]
    if credentials is not None:
        key = request.secret("secretAccessKey")
        if not key:
            raise request.error("no access key is given", hint="Give credentials.secretAccessKey.")
        told |= {"access_key_id": credentials["accessKeyId"], "secret_access_key": key}
    prefix = str(settings.get("prefix") or "").strip("/")
    return Remote(
        "s3",
        f"{settings['bucket']}/{prefix}" if prefix else settings["bucket"],
        told,
        # A prefix is there only when something is in it.
        make_path=bool(prefix) and not settings.get("readOnly"),
    )
