"""The vault's key is changed while the service runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.service import JOB, NEW, OLD, Service, job_body
from trainshed.identity import Vault
from trainshed.identity.keyring import KeyRing
from trainshed.identity.vault import key_id
from trainshed.store import jobs, secrets

ROTATE = "/providers/Microsoft.BatchAI/vault/rotate"


def secret_job(value: str) -> dict[str, Any]:
    return job_body(secrets=[{"name": "TOKEN", "value": value}])


def opened(service: Service, vault: Vault) -> list[str]:
    """Every stored secret, in order of owner and place."""
    return service.db.read_sync(lambda tx: [vault.unseal_text(sealed, owner) for owner, _, sealed in secrets.all(tx)])


def test_everything_is_sealed_with_the_new_key_and_the_service_goes_on(shed: Service) -> None:
    shed.make_job(body=secret_job("t0ken"))
    [old] = KeyRing.load_or_create(shed.home, {}).keys
    told = shed.send("POST", ROTATE, version=NEW)
    [new] = KeyRing.load_or_create(shed.home, {}).keys
    assert told.status_code == 200
    # The token, and the password of the cluster's account.
    assert told.json() == {"keyId": key_id(new).hex(), "secrets": 2}
    assert new != old and new.hex() not in told.text
    assert sorted(opened(shed, Vault(new))) == ["pass-w0rd-in-clear", "t0ken"]
    shed.make_job("later", body=secret_job("later"))
    assert "later" in opened(shed, Vault(new))


def test_rotations_and_submissions_at_once_lose_nothing(shed: Service) -> None:
    async def all_at_once() -> list[int]:
        submissions = (
            shed.asend("PUT", f"{JOB}{number}", secret_job(f"value-{number}"), version=NEW) for number in range(30)
        )
        rotations = (shed.asend("POST", ROTATE, version=NEW) for _ in range(3))
        return [answer.status_code for answer in await asyncio.gather(*submissions, *rotations)]

    assert set(shed.run(all_at_once())) == {200, 202}
    ring = KeyRing.load_or_create(shed.home, {}).keys
    assert len(ring) == 1
    assert {f"value-{number}" for number in range(30)} <= set(opened(shed, Vault(*ring)))


def test_a_start_under_way_still_opens_what_it_read_before(shed: Service) -> None:
    job = shed.make_job(body=secret_job("t0ken"))
    sealed = shed.db.read_sync(lambda tx: secrets.get(tx, job.uid))
    shed.send("POST", ROTATE, version=NEW)
    assert shed.vault.unseal_text(sealed["/secrets/0"], job.uid) == "t0ken"


def test_links_given_before_end(shed: Service) -> None:
    job = shed.make_job()
    (shed.stdouterr(job) / "stdout.txt").write_text("said")
    listed = shed.send("POST", f"{JOB}/listOutputFiles", outputdirectoryid="stdouterr").json()["value"]
    link = listed[0]["downloadUrl"]
    assert shed.send("GET", link, version=None, token=None).text == "said"
    shed.send("POST", ROTATE, version=NEW)
    assert shed.send("GET", link, version=None, token=None).status_code == 403


def test_a_row_that_does_not_open_is_named_and_nothing_changes(shed: Service) -> None:
    job = shed.make_job(body=secret_job("t0ken"))
    shed.apply(lambda tx: secrets.put(tx, job.uid, {"/secrets/0": b"x" * 60}))
    before, keys = shed.dump(), KeyRing.load_or_create(shed.home, {}).keys
    refused = shed.send("POST", ROTATE, version=NEW)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "VaultKeyNotRotated")
    assert job.uid in refused.json()["error"]["message"]
    assert shed.dump() == before and KeyRing.load_or_create(shed.home, {}).keys == keys


def test_a_key_of_the_environment_is_not_changed_here(shed: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINSHED_VAULT_KEY", "00" * 32)
    refused = shed.send("POST", ROTATE, version=NEW)
    assert refused.status_code == 409 and "--new-key-env" in refused.json()["error"]["message"]


def test_it_needs_a_token_and_the_newer_version(shed: Service) -> None:
    assert shed.send("POST", ROTATE, version=NEW, token=None).status_code == 401
    assert shed.send("POST", ROTATE, version=OLD).status_code == 400
    assert shed.db.read_sync(lambda tx: jobs.counts_by_state(tx))
