"""Whether nodes that share no file system with the service can call it: one of them tries (``trainshed doctor``)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from trainshed.engines.checks import Check
from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.commands import Commands, Refused
from trainshed.engines.slurm.node.start import OLDEST
from trainshed.engines.slurm.relay.certificate import certificate
from trainshed.engines.slurm.settings import SlurmSettings
from trainshed.listening import CannotListen

_TRY = """\
import hashlib, os, socket, ssl, sys
print('python', *sys.version_info[:2])
print('writable', int(os.access(sys.argv[3].replace('%n', os.environ.get('SLURMD_NODENAME', 'node')), os.W_OK)))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as plain, context.wrap_socket(plain) as line:
        print('shown', hashlib.sha256(line.getpeercert(True)).hexdigest())
except OSError as error:
    print('error', error)
"""


async def what_a_node_reaches(
    settings: SlurmSettings, commands: Commands, own: Path, arguments: Sequence[str]
) -> Check:
    """The service, the interpreter and the node's own directory, by a job of a moment."""
    name = "a node"
    host, port = settings.relay or ("", 0)
    try:
        await asyncio.to_thread(own.mkdir, 0o700, parents=True, exist_ok=True)
        async with _listening(settings, own) as fingerprint:
            words = [settings.python, "-c", _TRY, host, str(port), settings.node_directory]
            script = f"{settings.setup}\n{shlex.join(words)}" if settings.setup else shlex.join(words)
            told = await commands.run("srun", *arguments, "--immediate=10", "--nodes=1", "bash", "-c", script)
    except (OSError, CannotListen) as error:
        mend = "set the engine's 'report_to' to an address of this machine with a free port, or 'listen' beside it"
        return Check(name, False, f"nobody can listen for it here: {error}", mend)
    except (Refused, EngineUnavailable) as error:
        text = error.reason.text if isinstance(error, EngineUnavailable) else str(error)
        return Check(name, False, f"not tried, no node was free for it: {text[:200]}", "srun hostname", needed=False)
    found = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    version = tuple(map(int, re.findall(r"\d+", found.get("python", ""))))
    if version < OLDEST:
        mend = "set the engine's 'python' to one of 3.11 or later, or 'setup' to what loads it"
        return Check(name, False, f"its {settings.python} is not Python 3.11 or later", mend)
    if found.get("writable") != "1":
        return Check(name, False, f"{settings.node_directory} is not writable there", "set the engine's node_directory")
    if found.get("shown") != fingerprint:
        why = found.get("error") or "somebody else answers there"
        mend = f"open port {port} of this machine for the nodes, or set the engine's 'report_to' to where they reach it"
        return Check(name, False, f"it does not reach this machine at {host}:{port}: {why}", mend)
    return Check(
        name, True, f"it reaches this machine at {host}:{port}; {settings.python} is {version[0]}.{version[1]}"
    )


@contextlib.asynccontextmanager
async def _listening(settings: SlurmSettings, own: Path) -> AsyncIterator[str]:
    """Somebody listens, the service or else the caller; the certificate's fingerprint. Raises OSError, CannotListen."""
    tls, fingerprint = await asyncio.to_thread(certificate, own)
    host, port = settings.listens or ("", 0)
    try:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), host, port, ssl=tls.context)
    except OSError:
        # The service itself, if anybody.
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        yield fingerprint
        return
    async with server:
        yield fingerprint
