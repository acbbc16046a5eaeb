"""What commands print on stdout: a table, JSON, YAML, or names alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import click

T = TypeVar("T")


class Format(StrEnum):
    """The values of ``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column of a table: its heading, and what a row has there. ``number``: aligned to the right."""

    heading: str
    value: Callable[[T], object]
    number: bool = False


_COLOURS = {
    "succeeded": "green",
    "steady": "green",
    "idle": "green",
    "running": "cyan",
    "queued": "yellow",
    "resizing": "yellow",
    "preparing": "yellow",
    "terminating": "magenta",
    "leaving": "magenta",
    "deleting": "magenta",
    "failed": "red",
    "unusable": "red",
}


def table(rows: Iterable[T], columns: Sequence[Column[T]]) -> str:
    """A plain table; states in colour (click drops colours where there is no terminal)."""
    cells = [[_text(column.value(row)) for column in columns] for row in rows]
    widths = [max([len(column.heading), *(len(row[i]) for row in cells)]) for i, column in enumerate(columns)]
    lines = [
        "  ".join(_place(column.heading, width, column) for column, width in zip(columns, widths, strict=True)),
        "  ".join("-" * width for width in widths),
    ]
    for row in cells:
        lines.append(
            "  ".join(_cell(text, width, column) for text, width, column in zip(row, widths, columns, strict=True))
        )
    return "\n".join(line.rstrip() for line in lines)


def structured(value: Any, form: Format) -> str:
    """JSON or YAML of the contract's JSON."""
    if form is Format.YAML:
        import yaml

        return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip("\n")
    return json.dumps(value, indent=2, ensure_ascii=False)


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    # What comes from users must not steer the terminal, nor break the table.
    return "".join(character if character.isprintable() else "?" for character in text)


def _place(text: str, width: int, column: Column[Any]) -> str:
    return text.rjust(width) if column.number else text.ljust(width)


def _cell(text: str, width: int, column: Column[Any]) -> str:
    placed = _place(text, width, column)
    colour = _COLOURS.get(text)
    return placed.replace(text, click.style(text, fg=colour)) if colour else placed
