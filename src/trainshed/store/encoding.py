"""How structured values lie in text columns: compact JSON, the same on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from trainshed.resources.reasons import Reason

#: ASCII only: lone surrogates and control characters stay escaped, which both databases store as they are.
to_json = json.JSONEncoder(separators=(",", ":")).encode
from_json = json.loads


def reason_to_text(reason: Reason | None) -> str | None:
    """A reason for a nullable column."""
    return None if reason is None else to_json(reason.to_json())


def reason_from_text(text: str | None) -> Reason | None:
    """Read what ``reason_to_text`` wrote."""
    return None if text is None else Reason.from_json(from_json(text))


def reasons_to_text(reasons: Iterable[Reason]) -> str:
    """A list of reasons; ``[]`` when there are none."""
    return to_json([reason.to_json() for reason in reasons])


def reasons_from_text(text: str) -> tuple[Reason, ...]:
    """Read what ``reasons_to_text`` wrote."""
    return () if text == "[]" else tuple(Reason.from_json(item) for item in from_json(text))


def details_to_text(details: dict[str, Any] | None) -> str | None:
    """Details of an event; NULL when there are none."""
    return to_json(details) if details else None


def details_from_text(text: str | None) -> dict[str, Any]:
    """Read what ``details_to_text`` wrote."""
    return {} if text is None else from_json(text)
