"""Long-running operations as clients see them (rest-contract section 3)."""

from __future__ import annotations

from typing import Any, Literal

from trainshed.resources.common import Model


class OperationProperties(Model):
    """The internal key of the resource: names joined by ``$``."""

    resource_id: str


class OperationError(Model):
    """Why an operation failed."""

    code: str
    message: str
    target: str | None = None
    details: list[dict[str, Any]] | None = None


class OperationStatus(Model):
    """The state of an operation; its status is the only state with a capital on the wire."""

    id: str
    name: str
    status: Literal["InProgress", "Succeeded", "Failed"]
    start_time: str
    end_time: str | None = None
    properties: OperationProperties | None = None
    error: OperationError | None = None
