"""The relay's certificate: its own, made once. Nodes know it by the fingerprint that travels with each job."""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from trainshed.listening import Tls, TlsFiles

_YEARS = 100


def certificate(folder: Path) -> tuple[Tls, str]:
    """The server's side of TLS, and the certificate's SHA-256. Raises OSError, CannotListen."""
    files = TlsFiles(folder / "relay.pem", folder / "relay.key")
    if not (files.certificate.exists() and files.key.exists()):
        _make(files)
    text = files.certificate.read_text()
    return Tls(files), hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()


def _make(files: TlsFiles) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trainshed relay")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The certificate last: one without its key is made anew.
    for path, content in ((files.key, encoded), (files.certificate, made.public_bytes(serialization.Encoding.PEM))):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(descriptor)
