"""``--mount``: what it makes of a few words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.resources.bodies import job
from trainshed.cli.errors import CommandError
from trainshed.cli.mounts import EXAMPLES, add_mounts
from trainshed.resources.parsing import parse_job

AWS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": "https://h", "AWS_REGION": "r"}


@pytest.mark.parametrize(
    ("text", "kind", "entry"),
    [
        ("d=/data", "hostDirectories", {"path": "/data"}),
        ("d/e=/data,ro", "hostDirectories", {"path": "/data", "readOnly": True}),
        (
            "d=s3://b/p/q/,cache=9",
            "s3Buckets",
            {
                "bucket": "b", "prefix": "p/q", "endpoint": "https://h", "region": "r", "readOnly": True,
                "cache": {"maxSizeInGB": 9}, "credentials": {"accessKeyId": "A", "secretAccessKey": "s"},
            },
        ),
        ("d=git+https://h/x.git#v1", "gitRepositories", {"repositoryUrl": "https://h/x.git", "revision": "v1"}),
    ],
)  # fmt: skip
def test_what_it_makes(text: str, kind: str, entry: dict[str, Any]) -> None:
    made = add_mounts({}, [text], AWS)
    assert made == {kind: [{**entry, "relativeMountPath": text.partition("=")[0]}]}


def test_the_examples_and_what_there_was_are_kept() -> None:
    there = {"hostDirectories": [{"path": "/x", "relativeMountPath": "x"}]}
    made = add_mounts(there, [text.replace("data=", f"d{n}=") for n, text in enumerate(EXAMPLES.split())], {})
    assert [entry["relativeMountPath"] for entry in made["hostDirectories"]] == ["x", "d0"]
    assert "credentials" not in made["s3Buckets"][0] and len(there["hostDirectories"]) == 1
    made["s3Buckets"][0]["bucket"] = "bucket"
    parse_job(job(mountVolumes=made), "2026-11-01")


@pytest.mark.parametrize("text", ["/data", "=/data", "d=", "d=data", "d=/data,rw", "d=/x,cache=1", "d=s3://b,cache=x"])
def test_what_it_refuses(text: str) -> None:
    with pytest.raises(CommandError) as caught:
        add_mounts({}, [text], {})
    assert text in str(caught.value) and "--mount data=/data" in caught.value.way_out
