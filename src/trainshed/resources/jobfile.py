"""The original's job and cluster files, as ``-f`` takes them (behaviour 5.2).

They are not request bodies: they may hold comments, trailing commas, ``$schema`` and ``comment`` members and
placeholders for the storage account, and leave out what the command line fills in (the cluster, names of accounts that
stand in the share's URL, credentials).
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

from trainshed.resources.errors import INVALID_REQUEST_CONTENT, InvalidResource

ACCOUNT_PLACEHOLDER = "<AZURE_BATCHAI_STORAGE_ACCOUNT>"
KEY_PLACEHOLDER = "<AZURE_BATCHAI_STORAGE_KEY>"

# A string, or a comment, or a comma with nothing but space and comments before the closing bracket.
_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<comment>//[^\n]*|/\*.*?\*/)"
    r"|(?P<comma>,)(?=(?:\s|//[^\n]*+|(?>/\*.*?\*/))*+[}\]])",
    re.DOTALL,
)


def load_job_file(text: str, *, storage_account: str | None = None, storage_key: str | None = None) -> dict[str, Any]:
    """Read a job file into a body for PUT job, as complete as the file and the arguments make it.

    Raises InvalidResource when it is not JSON or a placeholder has no value.
    """
    body = _load(text, "job", storage_account, storage_key)
    properties = _properties(body)
    _complete_volumes(properties.get("mountVolumes"), storage_account, storage_key)
    return body


def load_cluster_file(
    text: str, *, storage_account: str | None = None, storage_key: str | None = None
) -> dict[str, Any]:
    """Read a cluster file into a body for PUT cluster. Raises as load_job_file."""
    body = _load(text, "cluster", storage_account, storage_key)
    setup = _properties(body).get("nodeSetup")
    if isinstance(setup, dict):
        _complete_volumes(setup.get("mountVolumes"), storage_account, storage_key)
    return body


def load_file_server_file(text: str) -> dict[str, Any]:
    """Read a file server's file into a body for PUT file server. Raises as load_job_file."""
    body = _load(text, "file server", None, None)
    _properties(body)
    return body


def volumes_without_credentials(volumes: Any) -> list[str]:
    """Accounts (each once, in order) whose volumes have no credentials yet: what the caller must look up."""
    accounts: list[str] = []
    for volume in _storage_volumes(volumes):
        if not volume.get("credentials") and volume.get("accountName") not in (None, *accounts):
            accounts.append(volume["accountName"])
    return accounts


def strip_comments(text: str) -> str:
    """JSON without comments and trailing commas; line numbers stay as they were."""

    def replace(match: re.Match[str]) -> str:
        if match["string"] is not None:
            return match["string"]
        return re.sub(r"[^\n]", " ", match[0])

    return _TOKEN.sub(replace, text)


def _load(text: str, noun: str, account: str | None, key: str | None) -> dict[str, Any]:
    try:
        parsed = json.loads(strip_comments(text.removeprefix("\ufeff")))
    except json.JSONDecodeError as error:
        message = f"The {noun} file is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise InvalidResource.of(INVALID_REQUEST_CONTENT, message) from None
    except RecursionError:
        message = f"The {noun} file is nested too deeply."
        raise InvalidResource.of(INVALID_REQUEST_CONTENT, message) from None
    if not isinstance(parsed, dict):
        message = f'The {noun} file does not hold a JSON object. Begin it with {{"properties": {{...}}}}.'
        raise InvalidResource.of(INVALID_REQUEST_CONTENT, message)
    values = {ACCOUNT_PLACEHOLDER: account, KEY_PLACEHOLDER: key}
    cleaned = _clean(parsed, values, noun, inside_map=False)
    assert isinstance(cleaned, dict)
    return cleaned


def _clean(value: Any, values: dict[str, str | None], noun: str, *, inside_map: bool) -> Any:
    """Drop ``$schema`` and ``comment`` members (not in maps that are the user's own) and fill placeholders."""
    if isinstance(value, dict):
        return {
            name: _clean(inner, values, noun, inside_map=name == "tags")
            for name, inner in value.items()
            if inside_map or name not in ("$schema", "comment")
        }
    if isinstance(value, list):
        return [_clean(inner, values, noun, inside_map=False) for inner in value]
    if isinstance(value, str):
        for placeholder, replacement in values.items():
            if placeholder in value:
                if not replacement:
                    raise _no_value(placeholder, noun)
                value = value.replace(placeholder, replacement)
    return value


def _no_value(placeholder: str, noun: str) -> InvalidResource:
    variable = placeholder.strip("<>")
    option = "--storage-account-name" if placeholder == ACCOUNT_PLACEHOLDER else "--storage-account-key"
    message = f"The {noun} file holds {placeholder}, for which there is no value. Give {option} or set {variable}."
    return InvalidResource.of(INVALID_REQUEST_CONTENT, message)


def _properties(body: dict[str, Any]) -> dict[str, Any]:
    properties = body.get("properties")
    if not isinstance(properties, dict):
        message = 'The file has no object "properties". Write {"properties": {...}}.'
        raise InvalidResource.of(INVALID_REQUEST_CONTENT, message, "properties")
    return properties


def _storage_volumes(volumes: Any) -> list[dict[str, Any]]:
    if not isinstance(volumes, dict):
        return []
    kinds = [volumes.get("azureFileShares"), volumes.get("azureBlobFileSystems")]
    return [volume for kind in kinds if isinstance(kind, list) for volume in kind if isinstance(volume, dict)]


def _complete_volumes(volumes: Any, account: str | None, key: str | None) -> None:
    for volume in _storage_volumes(volumes):
        url = volume.get("azureFileUrl")
        if not volume.get("accountName"):
            if isinstance(url, str):
                host = urlsplit(url).hostname or ""
                volume["accountName"] = host.split(".")[0]
            elif account:
                volume["accountName"] = account
        if not volume.get("credentials") and key and volume.get("accountName") == account:
            volume["credentials"] = {"accountKey": key}
