"""Where real storage accounts are, when not in the public Azure cloud: the administrator's ``storage-endpoints.json``.

An object with an entry for each account: ``{"myaccount": {"file": "files.example.org:445", "blob":
"https://blobs.example.org/myaccount"}}``. The entry ``*`` may have ``suffix``, for clouds other than the public one:
``{"*": {"suffix": "core.chinacloudapi.cn"}}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_EVERY = "*"
_SERVICES = ("file", "blob")


class InvalidEndpoints(ValueError):
    """The file's content cannot be used; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class StorageEndpoints:
    """The file's content."""

    accounts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: What follows ``account.blob.``; empty for the public cloud's.
    suffix: str = ""

    def file(self, account: str) -> str:
        """``host:port`` of the account's shares; empty: what the share's URL says."""
        return self.accounts.get(account.lower(), {}).get("file", "")

    def blob(self, account: str) -> str:
        """URL of the account's containers; empty: the public cloud's."""
        given = self.accounts.get(account.lower(), {}).get("blob", "")
        return given or (f"https://{account}.blob.{self.suffix}" if self.suffix else "")


def read_endpoints(text: str) -> StorageEndpoints:
    """Read the file. Raises InvalidEndpoints."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidEndpoints(f"it is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidEndpoints("it is no JSON object of accounts")
    accounts: dict[str, Mapping[str, str]] = {}
    suffix = ""
    for account, entry in data.items():
        allowed = ("suffix",) if account == _EVERY else _SERVICES
        if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
            raise InvalidEndpoints(f"'{account}' has no object of texts")
        if unknown := sorted(entry.keys() - set(allowed)):
            raise InvalidEndpoints(f"'{account}' has '{unknown[0]}'; it can have {' and '.join(allowed)}")
        if account == _EVERY:
            suffix = entry.get("suffix", "").strip(".")
        else:
            accounts[account.lower()] = _checked(account, entry)
    return StorageEndpoints(accounts, suffix)


def _checked(account: str, entry: Mapping[str, str]) -> Mapping[str, str]:
    if "file" in entry and not re.fullmatch(r"[^\s/:]+(:\d{1,5})?", entry["file"]):
        raise InvalidEndpoints(f"'{account}': file '{entry['file']}' is no HOST:PORT")
    if "blob" in entry:
        url = urlsplit(entry["blob"])
        if url.scheme not in ("http", "https") or not url.netloc or url.query:
            raise InvalidEndpoints(f"'{account}': blob '{entry['blob']}' is no http(s) URL")
    return entry
