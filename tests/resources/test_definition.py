"""Secrets go in and do not come out: neither in the definition, nor printed, nor serialised."""

from __future__ import annotations

import json
import pickle

import pytest

from tests.resources.bodies import cluster, file_server, job, share
from trainshed.resources.common import Secret
from trainshed.resources.definition import (
    definition,
    job_secret_environment,
    secrets_of,
    setup_secret_environment,
)
from trainshed.resources.parsing import parse_cluster, parse_file_server, parse_job

V18 = "2018-05-01"
REFERENCE = {"sourceVault": {"id": "/vault"}, "secretUrl": "https://vault/secret"}
JOB = job(
    secrets=[{"name": "TOKEN", "value": "s3cret-1"}, {"name": "KEPT", "valueSecretReference": REFERENCE}],
    mountVolumes={"azureFileShares": [share(), share(relativeMountPath="b")]},
    containerSettings={"imageSourceRegistry": {"image": "i", "credentials": {"username": "u", "password": "s3cret-2"}}},
)
CLUSTER = cluster(
    nodeSetup={
        "setupTask": {
            "commandLine": "true",
            "stdOutErrPathPrefix": "p",
            "secrets": [{"name": "A", "value": "s3cret-3"}],
        },
        "performanceCountersSettings": {
            "appInsightsReference": {"component": {"id": "/c"}, "instrumentationKey": "s3cret-4"}
        },
    }
)


def test_a_jobs_secrets_by_place() -> None:
    assert secrets_of(parse_job(JOB, V18).model) == {
        "/secrets/0": "s3cret-1",
        "/mountVolumes/azureFileShares/0/credentials/accountKey": "s3cret-key",
        "/mountVolumes/azureFileShares/1/credentials/accountKey": "s3cret-key",
        "/containerSettings/imageSourceRegistry/credentials/password": "s3cret-2",
    }


def test_a_clusters_secrets_by_place() -> None:
    assert secrets_of(parse_cluster(CLUSTER, V18).model) == {
        "/userAccountSettings/adminUserPassword": "s3cret-password",
        "/nodeSetup/setupTask/secrets/0": "s3cret-3",
        "/nodeSetup/performanceCountersSettings/appInsightsReference/instrumentationKey": "s3cret-4",
    }


def test_a_file_servers_secrets_by_place() -> None:
    place = "/sshConfiguration/userAccountSettings/adminUserPassword"
    assert secrets_of(parse_file_server(file_server(), V18).model) == {place: "s3cret"}


def test_the_definition_keeps_names_and_references_only() -> None:
    stored = definition(parse_job(JOB, V18).model)
    assert stored["secrets"] == [{"name": "TOKEN"}, {"name": "KEPT", "valueSecretReference": REFERENCE}]
    assert stored["mountVolumes"]["azureFileShares"][0]["credentials"] == {}
    assert stored["containerSettings"]["imageSourceRegistry"]["credentials"] == {"username": "u"}


def test_nothing_written_or_printed_holds_a_value() -> None:
    for model in (parse_job(JOB, V18).model, parse_cluster(CLUSTER, V18).model):
        written = [
            json.dumps(definition(model)),
            repr(model),
            str(model),
            model.model_dump_json(),
            str(model.model_dump()),
        ]
        assert all("s3cret" not in text for text in written)


def test_the_runner_gets_values_by_name() -> None:
    model = parse_job(JOB, V18).model
    assert job_secret_environment(definition(model), secrets_of(model)) == {"TOKEN": "s3cret-1"}


def test_the_setup_task_gets_values_by_name() -> None:
    model = parse_cluster(CLUSTER, V18).model
    assert setup_secret_environment(definition(model), secrets_of(model)) == {"A": "s3cret-3"}
    assert setup_secret_environment(definition(parse_cluster(cluster(), V18).model), {}) == {}


def test_a_secret_neither_prints_nor_pickles() -> None:
    secret = Secret("s3cret")
    assert (str(secret), repr(secret), f"{secret}") == ("***", "Secret('***')", "***")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    assert secret == Secret("s3cret") and secret != Secret("other") and hash(secret) == hash(Secret("s3cret"))
