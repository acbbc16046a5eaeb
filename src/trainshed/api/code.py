"""2026-11-01: sending code. Ask what is missing, send those files, then name the tree that they make."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Connection
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from trainshed.api import code_store
from trainshed.api.answers import answer
from trainshed.api.batches import contents, read_batch
from trainshed.api.body import parse_object, read_body
from trainshed.api.call import Call
from trainshed.api.errors import ApiError, being_deleted, invalid_value
from trainshed.api.room import check_room, disk_errors
from trainshed.api.sha256 import check_sha256
from trainshed.api.workspaces import required as required_workspace
from trainshed.resources.errors import INVALID_REQUEST_CONTENT, Problem
from trainshed.resources.ids import Kind
from trainshed.resources.lifecycle import ProvisioningState
from trainshed.store import code

#: Largest manifest in bytes.
_MANIFEST_LIMIT = 32 << 20
_NAMED_FILES = 10


async def list_missing(call: Call) -> Response:
    """POST ``{"sha256": [...]}``: those that must be sent."""
    store = await _store(call)
    given = parse_object(await call.body(), '{"sha256": ["64 hexadecimal digits", ...]}').get("sha256")
    if not isinstance(given, list):
        raise invalid_value("sha256", 'The member sha256 is required: a list, as in {"sha256": ["..."]}.')
    hashes = [check_sha256(entry, f"sha256[{index}]") for index, entry in enumerate(given)]
    return answer({"missing": await asyncio.to_thread(code_store.missing, store, hashes)})


async def put_blob(call: Call) -> Response:
    """PUT the content of one file: 201, or 200 when the service had it. Durable when answered."""
    digest = check_sha256(call.part("sha256"), "sha256")
    store = await _store(call)
    announced = call.request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > code_store.LARGEST_FILE:
        raise code_store.too_large()
    await asyncio.to_thread(check_room, call.services, int(announced) if announced.isdigit() else 0)
    known = not await asyncio.to_thread(code_store.missing, store, [digest])
    with disk_errors():
        blob = await asyncio.to_thread(code_store.IncomingBlob, store, digest)
        with blob:
            try:
                async for piece in code_store.gathered(call.request.stream()):
                    await asyncio.to_thread(blob.write, piece)
            except ClientDisconnect:
                message = "The connection was closed before the whole file was sent. Send it again."
                raise ApiError(400, INVALID_REQUEST_CONTENT, message) from None
            await asyncio.to_thread(blob.commit)
    return answer({"sha256": digest, "size": blob.size}, 200 if known else 201)


async def put_blobs(call: Call) -> Response:
    """POST many small files (16 MiB at most): a line ``{"files": [{"sha256", "size"}]}``, then their contents."""
    store = await _store(call)
    body = await read_batch(call.request)

    def put() -> int:
        files = contents(body)
        with disk_errors():
            check_room(call.services, len(body))
            code_store.put_all(store, files)
        return len(files)

    return answer({"files": await asyncio.to_thread(put)})


async def put_snapshot(call: Call) -> Response:
    """PUT a manifest ``{path: {"sha256", "mode"}}`` under the SHA-256 of its canonical JSON. Again changes nothing."""
    snapshot = check_sha256(call.part("snapshot"), "snapshot")
    files = await _store(call)
    manifest = parse_object(
        await read_body(call.request, _MANIFEST_LIMIT), '{"path": {"sha256": "...", "mode": 420}, ...}'
    )
    await asyncio.to_thread(_check_files, files, snapshot, manifest)
    key, name, now = call.workspace_key, call.name("workspace"), call.now()

    def store(tx: Connection) -> None:
        workspace = required_workspace(tx, key, name)
        if workspace.state is ProvisioningState.DELETING:
            raise being_deleted(Kind.WORKSPACE, name)
        code.put_snapshot(tx, workspace.user_number, snapshot, manifest, now)

    await call.write(store)
    return answer({"id": snapshot, "files": len(manifest)})


def _check_files(store: Path, snapshot: str, manifest: dict[str, dict[str, object]]) -> None:
    code_store.check_manifest(manifest)
    found = code_store.snapshot_id(manifest)
    if found != snapshot:
        raise invalid_value(
            "snapshot",
            f"The manifest's id is {found}, not {snapshot}: it is the SHA-256 of the manifest as JSON with sorted "
            "members, without spaces, in UTF-8.",
        )
    hashes = {str(entry["sha256"]): path for path, entry in manifest.items()}
    absent = code_store.missing(store, hashes)
    if absent:
        raise ApiError(
            400,
            "CodeBlobMissing",
            f"{len(absent)} of the manifest's files were not sent yet. PUT each to .../code/blobs/{{sha256}} first; "
            "POST .../code/missing tells which.",
            target="manifest",
            details=[Problem("CodeBlobMissing", digest, hashes[digest]) for digest in absent[:_NAMED_FILES]],
        )


async def _store(call: Call) -> Path:
    """The workspace's own: what others have sent is neither told nor to be had."""
    key, name = call.workspace_key, call.name("workspace")
    workspace = await call.read(lambda tx: required_workspace(tx, key, name))
    return call.services.home / code.directory(workspace.user_number)
