"""The original's recipe files through ``trainshed job create -f``: what is sent, and whether the service takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.client.stub_service import EXPERIMENT, WORKSPACE, Answer, Asked, StubService, answer, refusal
from tests.support.live_service import LiveService
from tests.support.program import Program
from tests.support.services import service
from trainshed.resources.jobfile import ACCOUNT_PLACEHOLDER, KEY_PLACEHOLDER, strip_comments

__all__ = ["service"]

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "recipes"
RECIPES = sorted(FOLDER.glob("*.job.json"))
ACCOUNT, KEY = "recipes", "a2V5"
OPTIONS = ("--storage-account-name", ACCOUNT, "--storage-account-key", KEY)
CLUSTER = f"{WORKSPACE}/clusters/gpus"
JOB = f"{EXPERIMENT}/jobs/j"
#: Of the toolkits that this version launches.
LAUNCHED = ("pyTorchSettings", "customMpiSettings", "customToolkitSettings")

pytestmark = pytest.mark.skipif(not RECIPES, reason=f"the original's recipes are not at {FOLDER}")


def written(path: Path) -> dict[str, Any]:
    """The properties as the file has them, but for what stands for the storage account."""
    text = strip_comments(path.read_text(encoding="utf-8-sig"))
    properties: dict[str, Any] = json.loads(text.replace(ACCOUNT_PLACEHOLDER, ACCOUNT).replace(KEY_PLACEHOLDER, KEY))[
        "properties"
    ]
    return properties


@pytest.fixture
def sent(stub: StubService) -> list[dict[str, Any]]:
    """The bodies of the jobs that the stub was sent."""
    bodies: list[dict[str, Any]] = []

    def put(asked: Asked) -> Answer:
        bodies.append(asked.json())
        return Answer(202)

    def get(_: Asked) -> Answer:
        if not bodies:
            return refusal(404, "JobNotFound", "The specified job j is not found")
        return answer({"id": JOB, "name": "j", "properties": {**bodies[-1]["properties"], "executionState": "queued"}})

    stub.on("GET", CLUSTER, answer({"id": CLUSTER, "name": "gpus", "properties": {}}))
    stub.on("PUT", JOB, put)
    stub.on("GET", JOB, get)
    return bodies


def test_all_recipes_are_here() -> None:
    assert len(RECIPES) == 17


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name.removesuffix(".job.json"))
def test_a_recipe_is_sent_as_it_is_written(
    trainshed: Run, stub: StubService, sent: list[dict[str, Any]], recipe: Path
) -> None:
    result = trainshed("job", "create", "j", "-c", "gpus", "-f", str(recipe), *OPTIONS, "-o", "quiet")
    assert (result.code, result.out, result.err) == (0, "j\n", "")
    (body,) = sent
    assert set(body) == {"properties"}
    told, said = dict(body["properties"]), written(recipe)
    assert told.pop("cluster") == {"id": CLUSTER}
    # Volumes alone are completed: with the account's name, which is in the share's address, and with its key.
    for kind, volumes in told.pop("mountVolumes", {}).items():
        for volume, original in zip(volumes, said["mountVolumes"][kind], strict=True):
            assert volume == {**volume, **original}
            assert (volume["accountName"], volume["credentials"]) == (ACCOUNT, {"accountKey": KEY})
    said.pop("cluster", None)
    said.pop("mountVolumes", None)
    assert told == said
    assert stub.requests("PUT", JOB)[0].query["api-version"] == "2018-05-01"


def test_a_recipe_without_an_account_says_what_is_missing(trainshed: Run, sent: list[dict[str, Any]]) -> None:
    (recipe,) = (path for path in RECIPES if path.name.startswith("PyTorch"))
    result = trainshed("job", "create", "j", "-c", "gpus", "-f", str(recipe))
    assert (result.code, sent) == (1, [])
    assert "--storage-account-name" in result.err


@pytest.mark.e2e
@pytest.mark.slow
def test_the_service_takes_those_that_it_can_launch(service: LiveService, tmp_path: Path) -> None:
    """On a cluster without nodes: they are accepted, shown without their key, and wait for nodes."""
    recipes = [path for path in RECIPES if any(kind in written(path) for kind in LAUNCHED)]
    assert len(recipes) == 2
    service.make_cluster(0)
    program = Program(service.home, tmp_path)
    for number, recipe in enumerate(recipes):
        name = f"recipe-{number}"
        made = program.ok("job", "create", "-n", name, "-c", "c", "-f", str(recipe), *OPTIONS, "-o", "json").json
        assert made["properties"]["nodeCount"] == written(recipe)["nodeCount"]
        shown = program.ok("job", "show", "-n", name, "-o", "json")
        assert KEY not in shown.out
        assert shown.json["properties"]["executionState"] == "queued"
        assert shown.json["properties"]["mountVolumes"]["azureFileShares"][0]["accountName"] == ACCOUNT
