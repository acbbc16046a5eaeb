"""The original's job files, comments and placeholders included; all of its recipes load and validate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.resources.bodies import CLUSTER_ID
from trainshed.resources.errors import InvalidResource
from trainshed.resources.jobfile import (
    load_cluster_file,
    load_file_server_file,
    load_job_file,
    strip_comments,
    volumes_without_credentials,
)
from trainshed.resources.parsing import parse_job

RECIPES = Path(__file__).parents[3] / "shared" / "reference" / "recipes"
TEXT = """\ufeff// a job
{
  "$schema": "https://host/job.json", /* over
  two lines */
  "comment": "says nothing",
  "properties": {
    "nodeCount": 2, // two
    "comment": {"nested": true},
    "customToolkitSettings": {"commandLine": "echo // not a comment /* nor this */ \\"x\\", }"},
    "mountVolumes": {
      "azureFileShares": [
        {"azureFileUrl": "https://<AZURE_BATCHAI_STORAGE_ACCOUNT>.file.core.windows.net/logs",
         "relativeMountPath": "l",},
        {"azureFileUrl": "https://other.file.core.windows.net/x", "relativeMountPath": "o"},
      ],
      "azureBlobFileSystems": [{"containerName": "data", "relativeMountPath": "data"}], /* last */
    },
  },
}
"""


def test_comments_placeholders_and_trailing_commas() -> None:
    body = load_job_file(TEXT, storage_account="acct", storage_key="k")
    assert body == {
        "properties": {
            "nodeCount": 2,
            "customToolkitSettings": {"commandLine": 'echo // not a comment /* nor this */ "x", }'},
            "mountVolumes": {
                "azureFileShares": [
                    {
                        "azureFileUrl": "https://acct.file.core.windows.net/logs",
                        "relativeMountPath": "l",
                        "accountName": "acct",
                        "credentials": {"accountKey": "k"},
                    },
                    {
                        "azureFileUrl": "https://other.file.core.windows.net/x",
                        "relativeMountPath": "o",
                        "accountName": "other",
                    },
                ],
                "azureBlobFileSystems": [
                    {
                        "containerName": "data",
                        "relativeMountPath": "data",
                        "accountName": "acct",
                        "credentials": {"accountKey": "k"},
                    }
                ],
            },
        }
    }
    assert volumes_without_credentials(body["properties"]["mountVolumes"]) == ["other"]


def test_credentials_in_the_file_are_kept() -> None:
    text = """{"properties": {"mountVolumes": {"azureFileShares": [
        {"azureFileUrl": "https://acct.file.core.windows.net/l",
         "credentials": {"accountKey": "<AZURE_BATCHAI_STORAGE_KEY>"}}
    ]}}}"""
    [share] = load_job_file(text, storage_account="acct", storage_key="k")["properties"]["mountVolumes"][
        "azureFileShares"
    ]
    assert share["credentials"] == {"accountKey": "k"}


def test_cluster_files() -> None:
    text = """{"properties": {"nodeSetup": {"mountVolumes": {"azureFileShares": [
        {"azureFileUrl": "https://acct.file.core.windows.net/l"}]}}}}"""
    volumes = load_cluster_file(text, storage_account="acct", storage_key="k")["properties"]["nodeSetup"][
        "mountVolumes"
    ]
    assert volumes["azureFileShares"][0]["accountName"] == "acct"
    assert volumes["azureFileShares"][0]["credentials"] == {"accountKey": "k"}


def test_file_server_files() -> None:
    assert load_file_server_file('{"comment": "", "properties": {"vmSize": "x"}}') == {"properties": {"vmSize": "x"}}


def test_line_numbers_of_errors_are_the_files() -> None:
    with pytest.raises(InvalidResource, match="line 3"):
        load_job_file('// one\n/* two */ {\n"a" 1}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "JSON object"),
        ("{}", "properties"),
        ('{"properties": []}', "properties"),
        ('{"properties": {"a": "<AZURE_BATCHAI_STORAGE_ACCOUNT>"}}', "AZURE_BATCHAI_STORAGE_ACCOUNT"),
        ('{"properties": {"a": "<AZURE_BATCHAI_STORAGE_KEY>"}}', "--storage-account-key"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_files_are_refused_with_the_way_out(text: str, words: str) -> None:
    with pytest.raises(InvalidResource, match=words) as caught:
        load_job_file(text)
    assert caught.value.code == "InvalidRequestContent"


def test_an_unfinished_comment_is_an_error() -> None:
    assert "/*" in strip_comments('{"a": 1} /* open')


def _recipes() -> list[Path]:
    return sorted(RECIPES.glob("*.json"))


def test_all_recipes_load_and_validate() -> None:
    recipes = _recipes()
    if not recipes:
        pytest.skip(f"the original's recipes are not at {RECIPES}")
    assert len(recipes) == 17
    for recipe in recipes:
        body = load_job_file(recipe.read_text(), storage_account="acct", storage_key="k")
        body["properties"]["cluster"] = {"id": CLUSTER_ID}
        assert parse_job(body, "2026-11-01").ignored == (), recipe.name
