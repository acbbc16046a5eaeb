"""Where the service listens, and how what is said there is protected."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

KEY_PASSWORD_VARIABLE = "TRAINSHED_TLS_KEY_PASSWORD"
#: For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class CannotListen(Exception):
    """The address or port is not to be had, or not without protection; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate with those that lead to its issuer, its key, and where the key's password is."""

    certificate: Path
    key: Path
    password_file: Path | None = None


class Tls:
    """A server's certificate, which can be changed while it serves."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises CannotListen when the files cannot be used."""
        self._files = files
        self.context = self._load(_new_context())

    def reload(self) -> None:
        """Read the files again; new connections get the new certificate. Raises CannotListen; then nothing changes."""
        self._load(_new_context())
        self._load(self.context)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        files = self._files
        _check_key(files.key)
        try:
            context.load_cert_chain(files.certificate, files.key, self._password)
        except ssl.SSLError as error:
            raise CannotListen(
                f"the certificate {files.certificate} and the key {files.key} cannot be used: "
                f"{error.reason or error}. They must be PEM files, the key that of the certificate, its password right"
            ) from None
        except OSError as error:
            raise CannotListen(f"{files.certificate} cannot be read: {error.strerror}") from None
        return context

    def _password(self) -> bytes:
        if self._files.password_file is not None:
            _check_key(self._files.password_file)
            return self._files.password_file.read_bytes().strip()
        password = os.environ.get(KEY_PASSWORD_VARIABLE)
        if password is None:
            raise CannotListen(
                f"the key {self._files.key} is encrypted: give --tls-key-password-file, or set {KEY_PASSWORD_VARIABLE}"
            )
        return password.encode()


def require_protection(host: str, *, tls: bool, insecure: bool) -> None:
    """Raises CannotListen for an address that other machines may reach, without TLS and without the flag for that."""
    if tls or insecure or is_loopback(host):
        return
    raise CannotListen(
        f"{host or 'the empty address'} can be reached from other machines, and without TLS tokens and secrets would "
        "cross the network in clear. Give --tls-cert and --tls-key; or listen on 127.0.0.1; or, where something else "
        "protects the network (a proxy with TLS on this machine, a tunnel), give --insecure-listen"
    )


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches the address, or all addresses of the name."""
    if not host:
        return False  # Every address, for a server.
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise CannotListen(f"{host!r} is no address of this machine: {error.strerror}; give another --host") from None
    return all(_is_loopback(address) for address in found)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host} port {port}: {error.strerror}; give another --port, or 0 for a free one"
        ) from None
    return listener


def url_of(host: str, listener: socket.socket, *, tls: bool) -> str:
    """Where clients of this machine find the service. For all addresses that is the loopback one."""
    scheme, port = "https" if tls else "http", listener.getsockname()[1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"{scheme}://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    return f"{scheme}://[{address}]:{port}" if address.version == 6 else f"{scheme}://{address}:{port}"


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_key(path: Path) -> None:
    """A group of the machine's may read a key (``ssl-cert``); nobody else may, and nobody but its owner writes it."""
    try:
        facts = path.stat()
    except OSError as error:
        raise CannotListen(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(facts.st_mode):
        raise CannotListen(f"{path} is not a file")
    if facts.st_mode & 0o037:
        raise CannotListen(
            f"{path} is secret, but its mode is {stat.S_IMODE(facts.st_mode):04o}: chmod 600 {path} (and make a new "
            "key if others may have read it)"
        )
    if facts.st_uid not in (os.geteuid(), 0):
        raise CannotListen(f"{path} is secret, but belongs to user {facts.st_uid}: chown it to this user")
