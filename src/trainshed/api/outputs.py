"""Where a job's output directories lie on the service's machine, and listing them (rest-contract section 9)."""

from __future__ import annotations

import asyncio
import posixpath
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import jobs as job_routes
from trainshed.api.answers import JSON
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, invalid_value
from trainshed.api.gate import FILES_PREFIX
from trainshed.api.paging import page, page_request, whole_number
from trainshed.api.services import Services
from trainshed.api.volumes import OpenVolume, covering, open_volume
from trainshed.control.locked import Locked
from trainshed.resources import directories
from trainshed.resources.keyvault import SecretUnavailable
from trainshed.resources.views import Json, directory_view, file_view
from trainshed.resources.volume_sources import VolumeSource
from trainshed.store.records import JobRecord
from trainshed.volumes.layered_reading import KeptLogsReader
from trainshed.volumes.reading import DirectoryReader, Entry, OutsideRoot, Reader, Unreadable

#: Stands for the nodes' own disks, which the service cannot read. Nothing lies below it.
_NODE_LOCAL = "/node-local"
#: Lifetimes of download links in minutes: default, shortest, longest.
LINK_MINUTES = (60, 5, 600)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an output directory lies: on the service's own mount root, or on a volume."""

    directory_id: str
    #: Absolute, below ``root``; relative to the volume where there is one.
    path: str
    root: str = ""
    #: The workspace's own folder on the way: reading is done with the rights of its owner.
    own: str | None = None
    volume: VolumeSource | None = None
    #: Where the nodes keep what is not in its place on the volume yet; None where they do not.
    kept: DirectoryReader | None = None
    #: The secrets of the job or cluster that describes the volume.
    secrets: Locked | None = None


async def list_output_files(call: Call) -> Response:
    """POST: one level of an output directory, in order of name. Empty until the directory exists."""
    key = call.job_key
    directory_id = call.query.get("outputdirectoryid", "")
    if not directory_id:
        raise invalid_value(
            "outputdirectoryid",
            "The query parameter outputdirectoryid is required: the id of one of the job's outputDirectories, or "
            f"'{directories.STDOUTERR}' for standard output and error.",
        )
    inside = _relative(call.query.get("directory") or ".")
    minutes = whole_number(call, "linkexpiryinminutes", *LINK_MINUTES)
    asked = page_request(call)
    record, place = await call.read(lambda tx: of_job(tx, call, key, directory_id))
    opened = await _open(call, place)
    try:
        entries = await asyncio.to_thread(opened.reader.list, inside, asked.after, asked.one_more)
    except OutsideRoot:
        raise _not_on_mount_root(directory_id) from None
    except Unreadable as error:
        raise not_readable(directory_id, str(error)) from None
    expires_at = call.now() + minutes * 60_000
    links = f"{FILES_PREFIX}{record.uid}/{directory_id}/" + (f"{inside}/" if inside else "")

    def view(entry: Entry) -> Json:
        if entry.is_directory:
            return directory_view(name=entry.name)
        if opened.link is not None:
            url = opened.link(directories.join(inside, entry.name), expires_at)
        else:
            path = links + entry.name
            signature = call.services.links.query(path, expires_at)
            url = f"{call.base_url}{quote(path, errors='surrogateescape')}?{signature}"
        return file_view(name=entry.name, download_url=url, modified_at=entry.modified_at, size=entry.size)

    return Response(page(call, asked, entries, view, lambda entry: entry.name), media_type=JSON)


def of_job(tx: Connection, call: Call, key: str, directory_id: str) -> tuple[JobRecord, Place]:
    """The job with this key and the place of its output directory. Raises ApiError."""
    record = job_routes.required(tx, call, key)
    return record, place_of(tx, call.services, record, directory_id)


def place_of(tx: Connection, services: Services, record: JobRecord, directory_id: str) -> Place:
    """Where the output directory of this id lies, ``stdouterr`` and ``checkpoints`` included.

    Raises ApiError 400 when the job has none of this id, or when it lies on no volume that the service can read.
    """
    properties = record.definition
    names = [directories.STDOUTERR, *(entry["id"] for entry in properties.get("outputDirectories") or [])]
    if directory_id not in (*names, directories.CHECKPOINTS):
        raise ApiError(
            400,
            "OutputDirectoryNotFound",
            f"The specified outputDirectoryId {directory_id[:100]} is not an output directory of the job. Its output "
            f"directories are: {', '.join(names)}.",
            target="outputdirectoryid",
        )
    root = services.mount_root(record.cluster_uid)
    if root is None:
        raise _not_on_mount_root(directory_id)
    _, _, _, workspace, _, experiment, *_ = record.segment.split("/")
    place = directories.JobPlace(
        workspace=workspace,
        experiment=experiment,
        job=record.name,
        segment=record.segment,
        mount_root=root,
        job_temp_root=f"{_NODE_LOCAL}/jobs",
        shared_job_temp=f"{_NODE_LOCAL}/shared",
        addresses=(),
    )
    environment = directories.job_environment(properties, place)
    path = directories.output_path(properties, directory_id, environment)
    if path is None or not path.startswith("/"):
        raise _not_on_mount_root(directory_id)
    path = posixpath.normpath(path)
    found = covering(tx, services, record, path, root, environment["AZ_BATCHAI_JOB_MOUNT_ROOT"])
    if found is not None:
        kept = _kept_logs(root, record.segment) if directory_id == directories.STDOUTERR else None
        return Place(directory_id, found.inside, volume=found.source, secrets=found.secrets, kept=kept)
    if not directories.is_below(path, root):
        raise _not_on_mount_root(directory_id)
    return Place(directory_id, path, root, _own_folder(path, record.segment))


def _own_folder(path: str, segment: str) -> str:
    """The folder of the job on the way to a generated path; it, or its workspace's above it, is the job's user's."""
    before, _, _ = path.rpartition(segment)
    return directories.join(before, segment)


def _kept_logs(root: str, segment: str) -> DirectoryReader:
    path = directories.kept_logs(root, segment)
    return DirectoryReader(path, root, _own_folder(path, segment))


async def reader_of(call: Call, place: Place) -> Reader:
    """What reads the directory. Raises ApiError 409 for a volume that cannot be read from here."""
    return (await _open(call, place)).reader


async def _open(call: Call, place: Place) -> OpenVolume:
    if place.volume is None:
        return OpenVolume(DirectoryReader(place.path, place.root, place.own))
    assert place.secrets is not None
    try:
        opened = await open_volume(call.services, place.volume, place.path, place.secrets)
    except (Unreadable, SecretUnavailable) as error:
        raise not_readable(place.directory_id, str(error)) from None
    if place.kept is None or place.volume.directory:
        return opened
    # What is kept has no link of the storage's own.
    return OpenVolume(KeptLogsReader(place.kept, opened.reader))


def not_readable(directory_id: str, why: str) -> ApiError:
    """409 for a volume that the service cannot read now."""
    return ApiError(
        409,
        "OutputDirectoryNotReadable",
        f"The specified outputDirectoryId {directory_id} cannot be read by the service: {why}.",
        target="outputdirectoryid",
    )


def _relative(given: str) -> str:
    """The sub-directory as plain segments; empty for the directory itself. Raises ApiError 400."""
    parts = [part for part in PurePosixPath(given).parts if part != "."]
    if given.startswith("/") or ".." in parts or "\0" in given:
        raise invalid_value(
            "directory",
            f"The directory '{given[:200]}' is not allowed. Give a path relative to the output directory, with '/' "
            "between its parts and without '..', for example 'checkpoints/epoch-3'.",
        )
    return "/".join(parts)


def _not_on_mount_root(directory_id: str) -> ApiError:
    return ApiError(
        400,
        "OutputDirectoryNotOnMountRoot",
        f"The specified outputDirectoryId {directory_id} is not present on a mount root. Only directories below "
        "$AZ_BATCHAI_MOUNT_ROOT can be listed; others stay on the nodes.",
        target="outputdirectoryid",
    )
