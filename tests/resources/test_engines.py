"""``engines.json``: what can be written there, and what is said of the rest."""

from __future__ import annotations

import pytest

from trainshed.resources.engines import (
    EngineDescription,
    InvalidEngines,
    Option,
    check_name,
    problems_of,
    read_engines,
    write_engines,
)


def test_what_is_written_is_read() -> None:
    described = (
        EngineDescription("hpc", "slurm", {"directory": "/shared"}),
        EngineDescription("boxes", "ray", {}),
    )
    assert read_engines(write_engines(described)) == described


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "an object with engines"),
        ('{"engines": {}, "more": 1}', "nothing else"),
        ('{"engines": {"local": {"kind": "slurm"}}}', "own engine"),
        ('{"engines": {"HPC": {"kind": "slurm"}}}', "lower-case"),
        ('{"engines": {"hpc": {}}}', "must have kind"),
        ('{"engines": {"hpc": {"kind": "slurm", "setting": {}}}}', "must have kind and settings"),
        ('{"engines": {"hpc": {"kind": "slurm", "settings": {"a": 1}}}}', "an object of texts"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(InvalidEngines, match=says):
        read_engines(text)


@pytest.mark.parametrize("name", ["", "9", "a" * 33, "a_b", "a/b", "ä"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidEngines):
        check_name(name)


def test_options_are_checked() -> None:
    known = (Option("a", "needed", required=True), Option("n", "a number", check=lambda v: None if v == "1" else "no"))
    assert problems_of({"a": "x", "n": "1"}, known) == []
    assert problems_of({"n": "2", "z": ""}, known) == [
        ("z", "is not known. Known are: a, n."),
        ("a", "is missing (needed)."),
        ("n", "cannot be '2': no"),
    ]
