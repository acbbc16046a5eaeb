"""A service that speaks HTTPS on loopback, with the real client and command line."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.leftovers import look_until_nothing
from tests.support.live_service import LiveService
from tests.support.program import Program
from trainshed.client import Client, Connection, Scope, UntrustedServiceError

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    certificate, key = authority.issue("server")
    live = LiveService(tmp_path_factory.mktemp("tls") / "home", "--tls-cert", str(certificate), "--tls-key", str(key))
    try:
        yield live.start()
    finally:
        live.stop()
    assert not look_until_nothing(live.home)


def connection(live: LiveService, ca_file: Path | None) -> Connection:
    told = live.told()
    return Connection(told["url"], told["token"], ca_file=str(ca_file) if ca_file else None)


def port_of(live: LiveService) -> int:
    return int(live.told()["url"].rpartition(":")[2])


def test_who_trusts_the_authority_is_served(secure: LiveService, authority: Authority) -> None:
    assert secure.told()["url"].startswith("https://127.0.0.1:")
    with Client(Scope(), connection=connection(secure, authority.file)) as client:
        client.workspaces.create("default", location="local")
        assert [workspace.name for workspace in client.workspaces.list()] == ["default"]


def test_who_does_not_is_told_what_to_do_and_sends_nothing(secure: LiveService, tmp_path: Path) -> None:
    for ca_file in (None, Authority.make(tmp_path, "stranger").file):
        with Client(Scope(), connection=connection(secure, ca_file)) as client:
            with pytest.raises(UntrustedServiceError, match="not trusted") as caught:
                list(client.workspaces.list())
    assert "TRAINSHED_CA_FILE" in caught.value.way_out


def test_a_client_made_for_plain_http_does_not_believe_a_certificate_unseen(
    secure: LiveService, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The service of this home moves from a port where nothing is to the secure one.
    home = tmp_path / "home"
    home.mkdir()
    (home / "service.json").write_text('{"url": "http://127.0.0.1:9", "token": "t", "pid": 1}')
    monkeypatch.setenv("TRAINSHED_HOME", str(home))
    monkeypatch.delenv("TRAINSHED_URL", raising=False)
    with Client(Scope()) as client:
        shutil.copy(secure.home / "service.json", home / "service.json")
        with pytest.raises(UntrustedServiceError):
            list(client.workspaces.list())


def test_the_command_line_takes_the_file_by_option_and_by_variable(
    secure: LiveService, authority: Authority, tmp_path: Path
) -> None:
    trusted = Program(secure.home, tmp_path, {"TRAINSHED_CA_FILE": str(authority.file)})
    assert trusted.ok("workspace", "list").code == 0
    plain = Program(secure.home, tmp_path)
    assert plain.ok("--ca-file", str(authority.file), "workspace", "list").code == 0
    refused = plain("workspace", "list")
    assert refused.code == 1 and "UntrustedService" in refused.err and "--ca-file" in refused.err
    missing = plain("--ca-file", "nowhere.pem", "workspace", "list")
    assert missing.code == 1 and "nowhere.pem" in missing.err


def test_a_job_runs_and_its_files_come_over_https(secure: LiveService, authority: Authority, tmp_path: Path) -> None:
    program = Program(secure.home, tmp_path, {"TRAINSHED_CA_FILE": str(authority.file)})
    (tmp_path / "out").mkdir()
    done = program.ok(
        "run", "--no-code", "--download", "out", "--", "echo said; echo kept > $AZ_BATCHAI_OUTPUT_OUTPUT/f", seconds=60
    )
    assert "said" in done.out
    assert [path.read_text() for path in (tmp_path / "out").rglob("f")] == ["kept\n"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_of_tls_are_refused(secure: LiveService, authority: Authority) -> None:
    def version(highest: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=authority.file)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = highest
        with socket.create_connection(("127.0.0.1", port_of(secure))) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return wrapped.version()

    assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert version(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        version(ssl.TLSVersion.TLSv1_1)


def test_sighup_takes_a_renewed_certificate_and_keeps_the_old_one_when_it_is_none(
    secure: LiveService, authority: Authority
) -> None:
    def served() -> bytes:
        context = ssl.create_default_context(cafile=authority.file)
        with socket.create_connection(("127.0.0.1", port_of(secure))) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return wrapped.getpeercert(binary_form=True) or b""

    log = secure.home.parent / f"{secure.home.name}.log"
    before = served()
    authority.issue("server")
    assert served() == before
    os.kill(secure.pid, signal.SIGHUP)
    secure.wait_for(lambda: served() != before, "the new certificate")
    renewed = served()
    (authority.folder / "server.crt").write_text("half a certificate")
    os.kill(secure.pid, signal.SIGHUP)
    secure.wait_for(lambda: "certificate not changed" in log.read_text(), "the refusal")
    assert served() == renewed
