"""Which volume of a job or its cluster holds a path, and reading that volume from the service's machine."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from trainshed.api.services import Services
from trainshed.control.locked import Locked, locked
from trainshed.control.volumes import admitted, resolved
from trainshed.resources import directories
from trainshed.resources.exports import source_directory
from trainshed.resources.volume_sources import VolumeKind, VolumeSource, path_in_share
from trainshed.store import clusters
from trainshed.store.errors import or_none
from trainshed.store.records import JobRecord
from trainshed.volumes.host_directories import open_host_directory
from trainshed.volumes.libnfs import Server
from trainshed.volumes.nfs_reading import NfsReader
from trainshed.volumes.reading import DirectoryReader, Reader, Unreadable
from trainshed.volumes.remotes import LinkMaker, link_maker, open_remote


@dataclass(frozen=True, slots=True)
class Covered:
    """A path on a volume: ``inside`` is relative to it, empty for the volume itself."""

    source: VolumeSource
    inside: str
    secrets: Locked


def covering(
    tx: Connection, services: Services, record: JobRecord, path: str, mount_root: str, job_mount_root: str
) -> Covered | None:
    """The volume of the job or its cluster on which a normal absolute ``path`` lies: the innermost one, if any.

    Unmanaged file systems are what their mount commands make of them: those of a cluster appear below its mount root on
    this machine too where they are to be read at all, so they are not asked for here.
    """
    found: tuple[str, VolumeSource, Locked] | None = None
    for base, source, secrets in _mounted(tx, services, record, mount_root, job_mount_root):
        if directories.is_below(path, base) and (found is None or len(base) >= len(found[0])):
            found = (base, source, secrets)
    if found is None or found[1].kind == VolumeKind.UNMANAGED_FILE_SYSTEMS:
        return None
    return Covered(found[1], path[len(found[0]) :].strip("/"), found[2])


def _mounted(
    tx: Connection, services: Services, record: JobRecord, mount_root: str, job_mount_root: str
) -> Iterator[tuple[str, VolumeSource, Locked]]:
    """Volumes with their mount points, outer ones first: the cluster's, then the job's."""
    home, endpoints, hosts = services.home, services.storage_endpoints, services.host_directories
    cluster = or_none(clusters.get, tx, record.cluster_key)
    if cluster is not None and cluster.uid == record.cluster_uid:
        described = (cluster.definition.get("nodeSetup") or {}).get("mountVolumes")
        sources, accounts = resolved(tx, described, "/nodeSetup/mountVolumes", home, endpoints, hosts)
        if sources:
            secrets = locked(tx, cluster.uid, cluster.workspace_key, cluster.definition, accounts, sealed=True)
            for source in sources:
                yield posixpath.normpath(directories.join(mount_root, source.relative_path)), source, secrets
    sources, accounts = resolved(tx, record.definition.get("mountVolumes"), "/mountVolumes", home, endpoints, hosts)
    if sources:
        secrets = locked(tx, record.uid, record.workspace_key, record.definition, accounts, sealed=True)
        for source in sources:
            yield posixpath.normpath(directories.join(job_mount_root, source.relative_path)), source, secrets


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """A directory of a volume. ``link``: None where the service serves the files itself."""

    reader: Reader
    link: LinkMaker | None = None


async def open_volume(services: Services, source: VolumeSource, inside: str, secrets: Locked) -> OpenVolume:
    """The directory ``inside`` the volume. Raises Unreadable and SecretUnavailable."""
    unseal = services.vault.unseal_text
    opened = await asyncio.to_thread(secrets.open, unseal, services.keyvault.get)
    (source,) = admitted([source], opened, secrets.keys(unseal))
    if source.problem:
        raise Unreadable(f"{source.title}: {source.problem}")
    start = ""
    if source.kind == VolumeKind.FILE_SERVERS:
        try:
            start = source_directory(source.settings.get("sourceDirectory"))
        except ValueError as error:
            raise Unreadable(f"{source.title}: {error}") from error
        reached = source.settings["mountSettings"]
        if "nfsPort" in reached:
            server = Server(
                reached["fileServerInternalIP"], reached["mountPoint"], reached["nfsPort"], reached["mountPort"]
            )
            return OpenVolume(NfsReader(server, directories.join(start, inside), source.title))
    if source.kind == VolumeKind.HOST_DIRECTORIES:
        return OpenVolume(await asyncio.to_thread(open_host_directory, source, inside))
    if source.kind == VolumeKind.AZURE_FILE_SHARES and source.directory:
        start = "/".join(path_in_share(source.settings["azureFileUrl"]))
    if source.directory:
        return OpenVolume(DirectoryReader(directories.join(source.directory, start, inside), source.directory))
    reader = await asyncio.to_thread(open_remote, source, inside, opened)
    return OpenVolume(reader, link_maker(source, inside, opened))
