"""A launch preview as a person reads it: the nodes, what each starts, and which variables are where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_INDENT = "  "
#: Longer values are cut in the tree; ``-o json`` has them whole.
_WIDEST = 240


def tree(plan: Mapping[str, Any]) -> str:
    """The whole answer of planJob as text. Names, addresses and directories in it are examples."""
    nodes, processes, ranks = plan["nodes"], plan["processes"], plan["ranks"]
    lines = [_headline(plan)]
    common = _common([_variables(node["environment"]) for node in nodes])
    for node in nodes:
        lines += ["", f"node {node['index']}: {node['name']}, {node['address']}, {_size(node)}"]
        preparation = node.get("preparation")
        if preparation:
            lines += _process("first, preparation", preparation, {})
        own = {name: value for name, value in _variables(node["environment"]).items() if name not in common}
        lines += _listed(own, _INDENT)
        for process in processes:
            if process["node"] == node["index"]:
                name = f"{process['role']} {process['index']}"
                if not process["essential"]:
                    name += " (stopped when the others have ended)"
                lines += _process(name, process, _variables(process["environment"]))
        launcher = "MPI" if plan.get("mpi") else "the agent"
        for rank in ranks:
            if rank["node"] == node["index"]:
                lines += [f"{_INDENT}rank {rank['rank']}, started by {launcher}"]
                lines += _listed(_variables(rank["environment"]), _INDENT * 2)
        if not any(entry["node"] == node["index"] for entry in (*processes, *ranks)):
            lines += [f"{_INDENT}nothing is started here"]
    return "\n".join([*lines, "", "on every node", *_listed(common, _INDENT)])


def _headline(plan: Mapping[str, Any]) -> str:
    started = len(plan["ranks"]) or len(plan["processes"])
    parts = [
        f"{plan['toolType']}: {_counted(started, 'process', 'processes')} on {_counted(len(plan['nodes']), 'node')}"
    ]
    if plan.get("mpi"):
        parts.append(f"started by {plan['mpi']}")
    return ", ".join(parts)


def _size(node: Mapping[str, Any]) -> str:
    return f"{_counted(node['cpus'], 'CPU')}, {_counted(node['gpus'], 'GPU')}, {_counted(node['slots'], 'slot')}"


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _process(name: str, process: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    return [
        f"{_INDENT}{name}",
        f"{_INDENT * 2}$ {_plain(process['commandLine'])}",
        f"{_INDENT * 2}> {process['stdout']}, {process['stderr']}",
        *_listed(environment, _INDENT * 2),
    ]


def _listed(variables: Mapping[str, str], indent: str) -> list[str]:
    return [f"{indent}{name}={_cut(_plain(value))}" for name, value in variables.items()]


def _variables(pairs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {pair["name"]: pair["value"] for pair in pairs}


def _common(environments: list[dict[str, str]]) -> dict[str, str]:
    """The variables that have the same value on all nodes."""
    first, *others = environments
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}..."


def _plain(text: str) -> str:
    """What comes from users must not steer the terminal, nor break the lines."""
    return "".join(character if character.isprintable() else "?" for character in text)
