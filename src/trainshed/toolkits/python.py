"""The command line of a Python script, for bash (behaviour 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainshed.toolkits.launch import PlanError

#: ``python`` of the PATH, else ``python3``; bash reports ``python: command not found`` where there is neither.
_DEFAULT_INTERPRETER = '"$(command -v python || command -v python3 || echo python)"'


def interpreter(settings: Mapping[str, Any]) -> str:
    """The interpreter as a word of bash."""
    given = settings.get("pythonInterpreterPath")
    return quote_path(given) if given else _DEFAULT_INTERPRETER


def python_command(settings: Mapping[str, Any], arguments: str | None = None, options: Sequence[str] = ()) -> str:
    """Interpreter, script and arguments.

    Paths may name variables and hold spaces; arguments are appended as they are, for bash to expand. ``arguments``
    replaces commandLineArgs (TensorFlow has several); ``options`` are the interpreter's, words of bash. Raises
    PlanError without a script.
    """
    script = settings.get("pythonScriptFilePath")
    if not script:
        raise PlanError("pythonScriptFilePath is missing: give the script to run")
    words = [interpreter(settings), *options, quote_path(script)]
    tail = settings.get("commandLineArgs") if arguments is None else arguments
    if tail:
        words.append(tail)
    return " ".join(words)


def quote_path(path: str) -> str:
    """In double quotes: variables are expanded, spaces are kept, nothing else is special."""
    for special in ("\\", '"', "`"):
        path = path.replace(special, f"\\{special}")
    path = path.replace("$(", "\\$(")
    return f'"{path}"'
