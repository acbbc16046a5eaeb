"""What the script of a job has of Trainshed where nodes share no file system with the service: fetch the rest, go on.

Its text is an argument of the interpreter: ``python -c TEXT lead|member HOST PORT FINGERPRINT TICKET DIGEST FOLDER``,
with the token of the job as the first line of standard input. It imports nothing that is not Python's.
"""

import contextlib
import fcntl
import hashlib
import http.client
import io
import os
import pathlib
import shutil
import ssl
import sys
import tarfile
import tempfile
import time

OLDEST = (3, 11)
#: Exit code of a node that cannot carry out anything.
CANNOT_START = 120
#: Seconds for which a service that is away is waited for, that a call may take, and between two.
_SECONDS, _CALL_SECONDS, _PAUSE = 600.0, 30.0, 1.0
#: Answers that do not change.
_UNKNOWN, _OK = (401, 404, 410), 200


def _fail(text: str) -> None:
    sys.stderr.write("trainshed: " + text + "\n")
    sys.exit(CANNOT_START)


def _fetch(host: str, port: str, fingerprint: str, path: str, token: str) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate is known by its fingerprint.
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, int(port), timeout=_CALL_SECONDS, context=context)
    try:
        connection.connect()
        if hashlib.sha256(connection.sock.getpeercert(True) or b"").hexdigest() != fingerprint:
            raise OSError("somebody else answers there")
        connection.request("GET", path, headers={"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status in _UNKNOWN:
        _fail("the service does not know the job any more")
    if answer.status != _OK:
        raise OSError("it answered " + str(answer.status))
    return content


def _insist(host: str, port: str, fingerprint: str, ticket: str, digest: str, token: str) -> bytes:
    until = time.monotonic() + _SECONDS
    while True:
        try:
            content = _fetch(host, port, fingerprint, "/v1/" + ticket + "/runner/" + digest, token)
            if hashlib.sha256(content).hexdigest() != digest:
                raise OSError("it sent something else")
            return content
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > until:
                _fail("the service cannot be reached at " + host + ":" + port + ": " + str(error))
            time.sleep(_PAUSE)


def _own(folder: str) -> pathlib.Path:
    folder = folder.replace("%n", os.environ.get("SLURMD_NODENAME", "node"))
    own = pathlib.Path(folder, "trainshed-" + str(os.geteuid()))
    try:
        own.mkdir(0o700)
    except FileExistsError:
        status = own.lstat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            _fail(str(own) + " must belong to this user and be closed to others")
    return own


def _unpack(content: bytes, above: pathlib.Path, place: pathlib.Path) -> None:
    above.mkdir(0o700, exist_ok=True)
    new = pathlib.Path(tempfile.mkdtemp(prefix=".", dir=str(above)))
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:xz") as archive:
        for member in archive:
            path = new / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            packed = archive.extractfile(member)
            assert packed is not None
            path.write_bytes(packed.read())
            path.chmod(member.mode)
    try:
        new.rename(place)
    except OSError:
        # Somebody else was quicker.
        shutil.rmtree(str(new), ignore_errors=True)
        if not place.is_dir():
            raise


def _held(place: pathlib.Path) -> bool:
    """Whether it is there, and nobody removes it while this process lives (see ``runners``)."""
    try:
        descriptor = os.open(str(place), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError):  # Not every file system has locks.
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        there = os.path.samestat(place.stat(), os.fstat(descriptor))
        os.utime(place)
    except FileNotFoundError:
        there = False
    if not there:
        os.close(descriptor)
    return there


def _main(role: str, host: str, port: str, fingerprint: str, ticket: str, digest: str, folder: str) -> None:
    if sys.version_info < OLDEST:
        _fail("the nodes need Python 3.11 or later: set the engine's option 'python'")
    token = b""
    while not token.endswith(b"\n"):
        # What comes after it is for others.
        byte = os.read(0, 1)
        if not byte:
            break
        token += byte
    word = token.decode().strip()
    try:
        above = _own(folder) / "runner"
        place = above / digest[:16]
        while not _held(place):
            _unpack(_insist(host, port, fingerprint, ticket, digest, word), above, place)
    except OSError as error:
        _fail("the node's directory " + folder + " cannot be used: " + str(error))
    sys.path.insert(0, str(place))
    from trainshed.engines.slurm.node import afar

    sys.exit(afar.main(role, sys.argv[1:], word))


if __name__ == "__main__":
    _main(*sys.argv[1:8])
