"""Reading files of jobs, clusters and file servers as the original had them, placeholders included (behaviour 5.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainshed.cli.errors import CommandError
from trainshed.cli.storage import Storage
from trainshed.client.transport import API_VERSION, ORIGINAL_API_VERSION


def read_job(path: Path, storage: Storage) -> tuple[dict[str, Any], str]:
    """A job file's properties, and the API version that it is meant for."""
    return _read(path, storage, "job")


def read_cluster(path: Path, storage: Storage) -> tuple[dict[str, Any], str]:
    """A cluster file's properties, and the API version that it is meant for."""
    return _read(path, storage, "cluster")


def read_file_server(path: Path) -> tuple[dict[str, Any], str]:
    """A file server's file's properties, and the API version that it is meant for."""
    return _read(path, Storage(), "file server")


def _read(path: Path, storage: Storage, kind: str) -> tuple[dict[str, Any], str]:
    from trainshed.resources import jobfile
    from trainshed.resources.errors import InvalidResource

    try:
        text = path.read_text(encoding="utf-8")
        if kind == "file server":
            body = jobfile.load_file_server_file(text)
        else:
            load = jobfile.load_job_file if kind == "job" else jobfile.load_cluster_file
            body = load(text, storage_account=storage.account, storage_key=storage.key)
    except UnicodeDecodeError:
        raise CommandError("InvalidFile", f"{path} is not a text file in UTF-8") from None
    except InvalidResource as error:
        raise CommandError(str(error.code), f"{path}: {error.message}") from None
    properties: dict[str, Any] = body["properties"]
    return properties, _version(text)


def _version(text: str) -> str:
    """The newer version for a file that names it in its ``$schema``.

    All others are taken as the original's, in which the service passes over members that it does not know and names
    them in a warning: old files hold some.
    """
    return API_VERSION if f"/{API_VERSION}/" in text else ORIGINAL_API_VERSION
