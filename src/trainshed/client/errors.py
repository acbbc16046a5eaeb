"""What can go wrong between a client and the service; each error says what, why and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class ClientError(Exception):
    """Anything that the client raises. ``code`` is stable; ``way_out`` is a command or advice, or empty."""

    code = "ClientError"
    way_out = ""


class NoServiceError(ClientError):
    """No service is named by the environment, and none is running for this home."""

    code = "NoService"

    def __init__(self, message: str, way_out: str = "trainshed serve") -> None:
        super().__init__(message)
        self.way_out = way_out


class ServiceUnreachableError(ClientError):
    """The service is named, but did not answer in time, also after retries."""

    code = "ServiceUnreachable"
    way_out = "trainshed status"


class UntrustedServiceError(ClientError):
    """What answers at the service's address has a certificate that nobody whom this client trusts vouches for."""

    code = "UntrustedService"
    way_out = "TRAINSHED_CA_FILE=FILE, or trainshed --ca-file FILE COMMAND, with the certificate that vouches for it"


class DownloadError(ClientError):
    """A file could not be written as the service holds it."""

    code = "DownloadFailed"


class UploadError(ClientError):
    """Files cannot be sent as they are on this machine."""

    code = "UploadFailed"


class CodeFolderError(ClientError):
    """The folder's code cannot be sent."""

    code = "CodeFolderInvalid"


class JobWaitTimeoutError(ClientError):
    """The job did not end within the time that the caller gave."""

    code = "WaitTimedOut"


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One entry of an error's details (rest-contract section 4)."""

    code: str
    message: str
    target: str | None = None


class ServiceError(ClientError):
    """The service refused: ``status`` is HTTP's, ``target`` the path of the property concerned, if any."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        target: str | None = None,
        details: tuple[ErrorDetail, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.target = target
        self.details = details


class NotFoundError(ServiceError):
    """The service has no such resource (404)."""


class OperationFailedError(ServiceError):
    """A long-running operation ended as failed."""


def error_from_reply(status: int, body: bytes) -> ServiceError:
    """The error that an answer of 400 or more carries; also for bodies that are not the contract's."""
    try:
        error = json.loads(body)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode("utf-8", "replace").strip()
        code, message, error = f"Http{status}", text or f"the service answered {status} without a reason", {}
    kind = NotFoundError if status == 404 else ServiceError
    return kind(code, message, status=status, target=error.get("target"), details=_details(error))


def operation_error(outcome: Mapping[str, Any]) -> OperationFailedError:
    """The error of an operation whose status is ``Failed`` or ``Canceled`` (rest-contract section 3)."""
    error = outcome.get("error") or {}
    code = str(error.get("code") or "OperationFailed")
    message = str(error.get("message") or "the operation failed without a reason")
    return OperationFailedError(code, message, status=200, target=error.get("target"), details=_details(error))


def _details(error: Mapping[str, Any]) -> tuple[ErrorDetail, ...]:
    return tuple(
        ErrorDetail(str(detail.get("code", "")), str(detail.get("message", "")), detail.get("target"))
        for detail in error.get("details") or ()
        if isinstance(detail, dict)
    )
