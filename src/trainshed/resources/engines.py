"""The engines of a service beside its own, as an administrator describes them: ``engines.json`` of the home.

Which settings an engine has is its kind's affair (``trainshed.engines.kinds``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FILE_NAME = "engines.json"
#: Nodes on the service's own machine; always there.
DEFAULT_ENGINE = "local"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_EXAMPLE = '{"engines": {"hpc": {"kind": "slurm", "settings": {"directory": "/shared/trainshed"}}}}'


class InvalidEngines(Exception):
    """An engine cannot be had as described: the message says what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of an engine, or of a cluster on it: a text, whose rule the kind of engine knows."""

    name: str
    help: str
    required: bool = False
    #: What is wrong with a value (it completes *the value is*), or None.
    check: Callable[[str], str | None] = field(default=lambda _value: None, compare=False)


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """An engine as it is written down."""

    name: str
    kind: str
    settings: Mapping[str, str]


def read_engines(text: str) -> tuple[EngineDescription, ...]:
    """Read what was written down. Raises InvalidEngines."""
    try:
        written = json.loads(text)
    except ValueError as error:
        raise InvalidEngines(f"it is not JSON ({error})") from None
    if not isinstance(written, dict) or not isinstance(written.get("engines"), dict) or len(written) != 1:
        raise InvalidEngines(f"it must be an object with engines and nothing else, for example {_EXAMPLE}")
    return tuple(_read(name, given) for name, given in written["engines"].items())


def write_engines(engines: tuple[EngineDescription, ...]) -> str:
    """What ``read_engines`` reads."""
    described = {engine.name: {"kind": engine.kind, "settings": dict(engine.settings)} for engine in engines}
    return json.dumps({"engines": described}, indent=2) + "\n"


def check_name(name: str) -> None:
    """Raises InvalidEngines when an engine cannot have this name."""
    if name == DEFAULT_ENGINE:
        raise InvalidEngines(f"{DEFAULT_ENGINE!r} is the service's own engine, always there; take another name")
    if not _NAME.fullmatch(name):
        raise InvalidEngines(
            f"{name!r} cannot be the name of an engine: it has 1 to 32 lower-case letters, digits and hyphens, "
            "beginning with a letter"
        )


def problems_of(given: Mapping[str, str], known: tuple[Option, ...]) -> list[tuple[str, str]]:
    """What is wrong with the settings that were given: names with texts that complete *the option ...*."""
    by_name = {option.name: option for option in known}
    names = ", ".join(sorted(by_name)) or "none"
    found = [(name, f"is not known. Known are: {names}.") for name in given if name not in by_name]
    absent = [option for option in known if option.required and option.name not in given]
    found += [(option.name, f"is missing ({option.help}).") for option in absent]
    for name, value in given.items():
        if name in by_name and (wrong := by_name[name].check(value)) is not None:
            found.append((name, f"cannot be {value!r}: {wrong}"))
    return found


def _read(name: str, given: Any) -> EngineDescription:
    check_name(name)
    if not isinstance(given, dict) or not isinstance(given.get("kind"), str) or set(given) - {"kind", "settings"}:
        raise InvalidEngines(f"engine {name!r} must have kind and settings, for example {_EXAMPLE}")
    settings = given.get("settings", {})
    if not isinstance(settings, dict) or not all(isinstance(value, str) for value in settings.values()):
        raise InvalidEngines(f"the settings of engine {name!r} must be an object of texts, for example {_EXAMPLE}")
    return EngineDescription(name, given["kind"], dict(settings))
