"""Where the service may listen without TLS, and which files make TLS."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from trainshed import server
from trainshed.listening import CannotListen, Tls, TlsFiles, is_loopback, require_protection, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "::ffff:127.0.0.1"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert is_loopback(host)
    require_protection(host, tls=False, insecure=False)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "0", "", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "128.0.0.1"]
)
def test_other_addresses_need_tls_or_the_flag(host: str) -> None:
    with pytest.raises(CannotListen, match=r"--tls-cert and --tls-key.*--insecure-listen"):
        require_protection(host, tls=False, insecure=False)
    require_protection(host, tls=True, insecure=False)
    require_protection(host, tls=False, insecure=True)


def test_the_service_refuses_before_it_touches_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.serve(server.ServeOptions(tmp_path / "home", "0.0.0.0")) == 1
    assert "can be reached from other machines" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_a_name_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(CannotListen, match="no address of this machine"):
        is_loopback("nosuch.invalid")


@pytest.mark.parametrize(
    ("host", "tls", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:"),
        ("127.0.0.1", True, "https://127.0.0.1:"),
        ("localhost", True, "https://localhost:"),
        ("0.0.0.0", True, "https://127.0.0.1:"),
        ("::", True, "https://[::1]:"),
        ("::1", False, "http://[::1]:"),
    ],
)
def test_urls(host: str, tls: bool, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        assert url_of(host, bound, tls=tls) == f"{url}{bound.getsockname()[1]}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


def test_files_make_a_context(authority: Authority) -> None:
    context = Tls(TlsFiles(*authority.issue("server"))).context
    assert context.minimum_version.name == "TLSv1_2"
    weak = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"]
    assert weak and all(name.startswith("ECDHE") and "CBC" not in name for name in weak)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o660])
def test_a_key_that_others_can_read_or_change_is_refused(authority: Authority, mode: int) -> None:
    certificate, key = authority.issue("server")
    key.chmod(mode)
    with pytest.raises(CannotListen, match=f"chmod 600 {key}"):
        Tls(TlsFiles(certificate, key))


def test_a_group_may_read_the_key(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    key.chmod(0o640)
    Tls(TlsFiles(certificate, key))


@pytest.mark.parametrize("what", ["absent certificate", "absent key", "no certificate", "key of another"])
def test_files_that_make_no_certificate_are_told(authority: Authority, tmp_path: Path, what: str) -> None:
    certificate, key = authority.issue("server")
    if what == "absent certificate":
        certificate.unlink()
    elif what == "absent key":
        key.unlink()
    elif what == "no certificate":
        certificate.write_text("no certificate")
    else:
        _, key = authority.issue("other")
    with pytest.raises(CannotListen, match=r"cannot be (read|used)"):
        Tls(TlsFiles(certificate, key))


def test_the_password_of_a_key(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINSHED_TLS_KEY_PASSWORD", raising=False)
    certificate, key = authority.issue("server", password=b"opens it")
    with pytest.raises(CannotListen, match="is encrypted: give --tls-key-password-file"):
        Tls(TlsFiles(certificate, key))
    monkeypatch.setenv("TRAINSHED_TLS_KEY_PASSWORD", "wrong")
    with pytest.raises(CannotListen, match="cannot be used"):
        Tls(TlsFiles(certificate, key))
    monkeypatch.setenv("TRAINSHED_TLS_KEY_PASSWORD", "opens it")
    Tls(TlsFiles(certificate, key))
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("opens it\n")
    monkeypatch.delenv("TRAINSHED_TLS_KEY_PASSWORD")
    Tls(TlsFiles(certificate, key, password))
