"""The documentation keeps step with the code: links, reason codes, commands and variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from trainshed.cli.main import cli
from trainshed.resources.reasons import ReasonCode

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_VARIABLE = re.compile(r"""["'](_?TRAINSHED_[A-Z_]*[A-Z])["'=]""")
#: What click reads itself when completion is asked for; users see only `trainshed completion`.
_INTERNAL = {"_TRAINSHED_COMPLETE"}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", _FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(command: click.Command, path: str, parent: click.Context | None = None) -> Iterator[str]:
    """The full names of all commands that do something."""
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent)
    if not isinstance(command, click.Group):
        yield path
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, f"{path} {name}", context)


def variables_read() -> set[str]:
    """Every TRAINSHED_* name that the source has as a whole string, and those of the scope, which share a prefix."""
    found: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        found |= set(_VARIABLE.findall(file.read_text(encoding="utf-8")))
    return found - _INTERNAL


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", text_of(page))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("code", list(ReasonCode), ids=lambda code: code.value)
def test_reason_codes_are_explained(code: ReasonCode) -> None:
    assert re.search(rf"^\| `{code.value}` \|", text_of(ROOT / "docs" / "concepts.md"), re.MULTILINE)


def test_commands_are_described() -> None:
    described = text_of(ROOT / "docs" / "cli.md")
    assert [name for name in commands(cli, "trainshed") if f"`{name}`" not in described] == []


def test_variables_are_described() -> None:
    described = "\n".join(text_of(page) for page in PAGES)
    read = variables_read()
    assert {"TRAINSHED_HOME", "TRAINSHED_WORKSPACE", "TRAINSHED_ISOLATION", "TRAINSHED_NODE_MARK"} <= read
    assert sorted(name for name in read if f"`{name}`" not in described) == []


def test_every_decision_is_short_and_says_why() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert records
    for number, record in enumerate(records, 1):
        lines = text_of(record).splitlines()
        assert record.name.startswith(f"{number:04d}-")
        assert [line for line in lines if line.startswith("## ")] == ["## Context", "## Decision", "## Consequences"]
        assert len(lines) <= 25, record.name


def test_readme_begins_with_the_two_commands() -> None:
    readme = text_of(ROOT / "README.md")
    first = readme.index("```")
    shown = readme[first : readme.index("```", first + 3)]
    assert [line.split("#")[0].strip() for line in shown.splitlines()[1:]] == ["make demo", "make test"]


def test_tests_of_the_contracts_rules_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text_of(ROOT / "docs" / "contract-rules.md"))
    assert len(named) > 40
    assert [f"{file}::{name}" for file, name in named if f"def {name}(" not in text_of(ROOT / "tests" / file)] == []


def test_compatibility_has_a_row_for_every_operation_of_the_contract() -> None:
    from trainshed.api.endpoints import ENDPOINTS

    page = text_of(ROOT / "docs" / "compatibility.md")
    contract = {
        endpoint.operation_id
        for endpoint in ENDPOINTS
        if endpoint.path.count("/providers/") == 1
        and "/providers/Microsoft.BatchAI/" in endpoint.path
        and not endpoint.newer
        # Further pages of an operation are part of it.
        and not endpoint.operation_id.endswith("Next")
    }
    assert len(contract) >= 28
    # Not operations of the specification, which has no paths for them; the page has one row for both.
    contract -= {"OperationResults_Get", "OperationStatuses_Get"}
    rows = "\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| "))
    assert sorted(name for name in contract if not re.search(rf"\b{name}\b", rows)) == []


def test_compatibility_names_tests_that_exist() -> None:
    named = set(re.findall(r"`((?:\w+/)+test_\w+\.py)`", text_of(ROOT / "docs" / "compatibility.md")))
    assert len(named) > 10
    assert sorted(name for name in named if not (ROOT / "tests" / name).is_file()) == []
