"""azureBlobFileSystems: a container of Azure Blob, or of what speaks its protocol at an endpoint of its own.

Microsoft's own blobfuse2 where it is installed, else rclone. ``accountKey`` may also be a shared access signature of
the container (``sv=...&sig=...``). Files become visible to others when they are closed (behaviour 3.6).
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from trainshed.volumes import blobfuse
from trainshed.volumes.blob_options import BlobOptions, RefusedOption, parse_options
from trainshed.volumes.directory import mount_embedded
from trainshed.volumes.protocol import Mounted, MountRequest
from trainshed.volumes.rclone import Look, Remote
from trainshed.volumes.read_cache import mount_cached


def mount_blobs(request: MountRequest) -> Mounted:
    """A container. Raises VolumeError."""
    try:
        options = parse_options(request.source.settings.get("mountOptions") or "")
    except RefusedOption as error:
        raise request.error(f"its mountOptions {error}", hint="Leave it out of mountOptions.") from error
    if request.source.directory:
        return mount_embedded(request, read_only=options.read_only or bool(request.source.settings.get("cache")))
    container = container_at(request, options)
    if blobfuse.is_installed() and not request.source.settings.get("cache"):
        return blobfuse.mount(request, container, options)
    mode = 0o777 & ~options.umask
    more = [f"--attr-timeout={options.attr_timeout}s"] if options.attr_timeout is not None else []
    if options.cache_seconds is not None:
        more.append(f"--vfs-cache-max-age={max(1, options.cache_seconds)}s")
    return mount_cached(request, _remote(container), Look(mode, mode, options.read_only, tuple(more)))


def remote_of(request: MountRequest) -> Remote:
    """Where rclone finds it. Raises VolumeError."""
    return _remote(container_at(request, BlobOptions()))


def container_at(request: MountRequest, options: BlobOptions) -> blobfuse.Container:
    """Where the container is, and how to get in. Raises VolumeError."""
    settings = request.source.settings
    credential = request.secret("accountKey")
    if not credential:
        raise request.error("no key of the account is given", hint="Give credentials.accountKey.")
    account = settings["accountName"]
    endpoint = str(settings.get("endpoint") or f"https://{account}.blob.core.windows.net").rstrip("/")
    if not options.https and not settings.get("endpoint"):
        endpoint = urlunsplit(urlsplit(endpoint)._replace(scheme="http"))
    return blobfuse.Container(account, settings["containerName"], endpoint, credential.lstrip("?"))


def _remote(container: blobfuse.Container) -> Remote:
    # Directories are there although they are empty, for blobfuse too (hdi_isfolder).
    told = {"directory_markers": "true"}
    if container.by_signature:
        told["sas_url"] = f"{container.endpoint}/{container.name}?{container.credential}"
    else:
        told |= {"account": container.account, "key": container.credential, "endpoint": container.endpoint}
    return Remote("azureblob", container.name, told)
