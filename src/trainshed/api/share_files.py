"""2026-11-01: files of shares and containers of embedded accounts: what is there, sending what is not, removing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from trainshed.api.answers import JSON, answer
from trainshed.api.batches import Content, contents, grouped, read_batch, wrong_content
from trainshed.api.body import parse_object, read_body
from trainshed.api.call import Call
from trainshed.api.code_store import gathered
from trainshed.api.errors import ApiError, invalid_value
from trainshed.api.gate import FILES_PREFIX
from trainshed.api.outputs import LINK_MINUTES
from trainshed.api.paging import page, page_request, whole_number
from trainshed.api.room import check_room, disk_errors
from trainshed.api.share_paths import Volume, check_path, check_together, volume_of, wanted_file
from trainshed.resources import directories
from trainshed.resources.errors import INVALID_REQUEST_CONTENT
from trainshed.resources.views import Json, directory_view, file_view
from trainshed.volumes.content_hashes import ContentHashes
from trainshed.volumes.drafts import Draft, sweep
from trainshed.volumes.embedded import hashes_path
from trainshed.volumes.reading import DirectoryReader, Entry, OutsideRoot
from trainshed.volumes.share_files import InTheWay, Share, Wanted

#: Largest file in bytes, and most files that one question is about.
LARGEST_FILE = 1 << 40
MOST_FILES = 10_000
#: Largest question in bytes: so many files, with long paths.
_QUESTION_LIMIT = 32 << 20


async def list_files(call: Call) -> Response:
    """GET one level of a share or container, in order of name: folders, and files with links that need no token."""
    volume = await volume_of(call)
    inside = _directory(call.query.get("directory") or "")
    minutes = whole_number(call, "linkexpiryinminutes", *LINK_MINUTES)
    asked = page_request(call)
    if not volume.directory.is_dir():
        raise volume.not_found
    try:
        entries = await asyncio.to_thread(reader_of(volume).list, inside, asked.after, asked.one_more)
    except OutsideRoot:
        raise _leads_out(inside) from None
    expires_at = call.now() + minutes * 60_000
    links = f"{FILES_PREFIX}{volume.account_uid}/{volume.service}/{directories.join(volume.name, inside)}/"

    def view(entry: Entry) -> Json:
        if entry.is_directory:
            return directory_view(name=entry.name)
        path = links + entry.name
        url = f"{call.base_url}{quote(path, errors='surrogateescape')}?{call.services.links.query(path, expires_at)}"
        return file_view(name=entry.name, download_url=url, modified_at=entry.modified_at, size=entry.size)

    return Response(page(call, asked, entries, view, lambda entry: entry.name), media_type=JSON)


def reader_of(volume: Volume) -> DirectoryReader:
    """What reads the share or container."""
    return DirectoryReader(str(volume.directory), str(volume.directory))


async def list_missing(call: Call) -> Response:
    """POST ``{"files": [{"path", "sha256", "size", "executable"}]}``: the paths of those that must be sent."""
    volume = await volume_of(call)
    body = parse_object(await read_body(call.request, _QUESTION_LIMIT), '{"files": [{"path": "...", ...}, ...]}')
    files = body.get("files")
    if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
        raise invalid_value("files", "The member files is required: a list of objects with path, sha256 and size.")
    if len(files) > MOST_FILES:
        raise invalid_value("files", f"The request has {len(files):,} files; at most {MOST_FILES:,} are allowed.")
    wanted = [wanted_file(entry, f"files[{index}]") for index, entry in enumerate(files)]
    check_together([entry.path for entry in wanted], "files")

    def missing() -> list[str]:
        try:
            share = Share(volume.directory)
        except FileNotFoundError:
            return [entry.path for entry in wanted]
        with share, ContentHashes(hashes_path(volume.home)) as hashes:
            return share.differing(wanted, hashes)

    return answer({"missing": await asyncio.to_thread(missing)})


async def put_content(call: Call) -> Response:
    """PUT one file's content, with its ``path`` and ``sha256`` in the query. Durable when answered."""
    volume = await volume_of(call)
    headers = call.request.headers
    announced = headers.get("content-length", "")
    size = int(announced) if announced.isdigit() else 0
    described = {
        "path": call.query.get("path"),
        "sha256": call.query.get("sha256"),
        "size": size,
        "executable": _flag(call, "executable"),
    }
    wanted = wanted_file(described)
    if size > LARGEST_FILE:
        raise _too_large()
    with disk_errors():
        await asyncio.to_thread(_prepare, call, volume, [wanted], size)
        draft = await asyncio.to_thread(Draft, volume.drafts, wanted.mode)
        with draft:
            try:
                async for piece in gathered(call.request.stream()):
                    await asyncio.to_thread(_take, call, draft, piece)
            except ClientDisconnect:
                message = "The connection was closed before the whole file was sent. Send it again."
                raise ApiError(400, INVALID_REQUEST_CONTENT, message) from None
            if draft.sha256 != wanted.sha256:
                raise wrong_content(draft.sha256, wanted.sha256, "sha256")
            await asyncio.to_thread(_place, volume, [(wanted, draft)])
    return answer({"path": wanted.path, "sha256": wanted.sha256, "size": draft.size})


async def put_contents(call: Call) -> Response:
    """POST many small files (16 MiB at most): a line ``{"files": [{"path", "sha256", "size"}]}``, then the contents."""
    volume = await volume_of(call)
    body = await read_batch(call.request)

    def put() -> int:
        files = contents(body)
        wanted = [wanted_file(content.entry, f"files[{index}]") for index, content in enumerate(files)]
        check_together([entry.path for entry in wanted], "files")
        with disk_errors():
            _prepare(call, volume, wanted, len(body))
            grouped(list(zip(wanted, files, strict=True)), lambda group: _put(volume, group))
        return len(files)

    return answer({"files": await asyncio.to_thread(put)})


async def remove_files(call: Call) -> Response:
    """POST ``{"paths": [...]}``: these files are removed, and folders that are left empty by it."""
    volume = await volume_of(call)
    paths = parse_object(await read_body(call.request, _QUESTION_LIMIT), '{"paths": ["...", ...]}').get("paths")
    if not isinstance(paths, list):
        raise invalid_value("paths", 'The member paths is required: a list, as in {"paths": ["images/0001.png"]}.')
    if len(paths) > MOST_FILES:
        raise invalid_value("paths", f"The request has {len(paths):,} paths; at most {MOST_FILES:,} are allowed.")
    checked = [check_path(path, f"paths[{index}]") for index, path in enumerate(paths)]

    def remove() -> int:
        try:
            share = Share(volume.directory)
        except FileNotFoundError:
            return 0
        with _in_the_way(volume), share:
            return share.remove(checked)

    return answer({"removed": await asyncio.to_thread(remove)})


def _prepare(call: Call, volume: Volume, wanted: Sequence[Wanted], size: int) -> None:
    """Before anything is written: there is room, and nothing is in the way as things are now."""
    check_room(call.services, size)
    volume.make()
    sweep(volume.drafts)
    with _in_the_way(volume), Share(volume.directory) as share:
        for entry in wanted:
            share.check(entry.path)


def _take(call: Call, draft: Draft, piece: bytes) -> None:
    if draft.size + len(piece) > LARGEST_FILE:
        raise _too_large()
    check_room(call.services, len(piece))
    draft.write(piece)


def _put(volume: Volume, group: Sequence[tuple[Wanted, Content]]) -> None:
    with ExitStack() as stack:
        drafts = []
        for wanted, content in group:
            draft = stack.enter_context(Draft(volume.drafts, wanted.mode))
            draft.write(content.data)
            drafts.append((wanted, draft))
        _place(volume, drafts)


def _place(volume: Volume, drafts: Sequence[tuple[Wanted, Draft]]) -> None:
    with _in_the_way(volume), Share(volume.directory) as share, ContentHashes(hashes_path(volume.home)) as hashes:
        share.place(drafts, hashes)


@contextmanager
def _in_the_way(volume: Volume) -> Iterator[None]:
    """What a job may do meanwhile: a link or a directory in a file's place, or the place itself removed."""
    try:
        yield
    except InTheWay as error:
        raise ApiError(
            409,
            "PathInTheWay",
            f"In {volume.service}/{volume.name} of the storage account '{volume.account}' {error}: no file can be put "
            "or removed there. Remove it, in a job that mounts it or on the service's machine, or use another path.",
            target="path",
        ) from None
    except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ApiError(
            409,
            "Conflict",
            f"{volume.service}/{volume.name} of the storage account '{volume.account}' was changed meanwhile "
            f"({error.strerror}). Send again what is missing.",
            target="path",
        ) from None


def _directory(given: str) -> str:
    """A folder in a share; empty for the share itself. Raises ApiError 400."""
    plain = given.removesuffix("/")
    return "" if plain in ("", ".") else check_path(plain, "directory")


def _leads_out(inside: str) -> ApiError:
    return ApiError(
        409, "PathInTheWay", f"The folder '{inside[:200]}' leads out of the share by a link.", target="directory"
    )


def _flag(call: Call, name: str) -> bool:
    given = call.query.get(name, "false")
    if given not in ("true", "false"):
        raise invalid_value(name, f"The value '{given[:50]}' of the query parameter {name} is not true or false.")
    return given == "true"


def _too_large() -> ApiError:
    return ApiError(
        413,
        "RequestEntityTooLarge",
        f"The file is larger than the limit of {LARGEST_FILE:,} bytes (1 TiB). Send it in parts.",
        headers={"Connection": "close"},
    )
