"""Today's toolkits: 2026-11-01 has and checks them, 2018-05-01 passes them over by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.resources.bodies import DELETE, job, job_with
from trainshed.api.members import original_job
from trainshed.resources.definition import definition
from trainshed.resources.errors import InvalidResource
from trainshed.resources.parsing import parse_job
from trainshed.resources.toolsettings import NEWER_TOOL_TYPES
from trainshed.resources.versions import KNOWN_VERSIONS

OLD, NEW = KNOWN_VERSIONS
RANKS = [member for member in NEWER_TOOL_TYPES if member != "raySettings"]


def _script(**more: Any) -> dict[str, Any]:
    return {"pythonScriptFilePath": "train.py", **more}


@pytest.mark.parametrize("member", NEWER_TOOL_TYPES)
def test_the_newer_version_keeps_what_was_given(member: str) -> None:
    kept = definition(parse_job(job_with(member, _script(commandLineArgs="-x")), NEW).model)[member]
    defaults = {"rendezvousBackend": "c10d", "maxRestarts": 0} if member == "torchrunSettings" else {}
    assert kept == {**_script(commandLineArgs="-x"), **defaults}


@pytest.mark.parametrize("member", NEWER_TOOL_TYPES)
def test_the_original_knows_none_of_them(member: str) -> None:
    parsed = parse_job(job(**{member: _script()}), OLD)
    assert parsed.ignored == (f"properties.{member}",)
    with pytest.raises(InvalidResource, match="exactly one toolkit; it has none") as refused:
        parse_job(job_with(member, _script()), OLD)
    assert "horovodSettings" in refused.value.message and "jaxSettings" not in refused.value.message


def test_the_newer_version_counts_and_advises_them() -> None:
    with pytest.raises(InvalidResource, match=r"it has none\..*horovodSettings.*raySettings"):
        parse_job(job(customToolkitSettings=DELETE), NEW)
    with pytest.raises(InvalidResource, match="it has customToolkitSettings and jaxSettings"):
        parse_job(job(jaxSettings=_script()), NEW)


@pytest.mark.parametrize(
    ("member", "settings", "path", "words"),
    [
        *((member, {}, "pythonScriptFilePath", "is missing") for member in NEWER_TOOL_TYPES),
        *((member, _script(processCount=1), "processCount", "is too small: each node") for member in RANKS),
        ("lightningSettings", _script(processCount=3), "processCount", "not a multiple of nodeCount, 2"),
        ("torchrunSettings", _script(rendezvousBackend="etcd"), "rendezvousBackend", "c10d"),
        ("torchrunSettings", _script(maxRestarts=-1), "maxRestarts", "from 0 to 100"),
        ("torchrunSettings", _script(maxRestarts=101), "maxRestarts", "from 0 to 100"),
        ("raySettings", _script(processCount=2), "processCount", "not known in api-version 2026-11-01"),
        ("tensorFlowSettings", _script(masterRole="Leader"), "masterRole", "Chief"),
    ],
)
def test_what_is_refused(member: str, settings: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        parse_job(job_with(member, settings, nodeCount=2), NEW)
    assert refused.value.target == f"properties.{member}.{path}"
    assert words in refused.value.message


def test_the_masters_role_is_the_newer_versions_alone() -> None:
    body = job_with("tensorFlowSettings", _script(masterRole="chief"))
    assert parse_job(body, OLD).ignored == ("properties.tensorFlowSettings.masterRole",)
    stored = definition(parse_job(body, NEW).model)
    assert stored["tensorFlowSettings"]["masterRole"] == "Chief"
    assert original_job(stored)["tensorFlowSettings"] == _script(workerCount=1)
