"""MPI's launch agent: called like ssh by ``mpirun`` (``agent [options] HOST COMMAND...``), it asks the runner of that
host to start the command, relays its output, and ends with its exit code (255 when the runner cannot be reached).

Runs by itself, isolated from the job's Python settings (``python -I -S -E``), and starts in milliseconds: it imports
next to nothing. Token and addresses come by environment variables, so that no command line shows them.
"""

import _socket
import os
import select
import sys

FAILED = 255
CONNECT_SECONDS = 30.0
#: Seconds for which output is still relayed after the command ended, when something keeps it open.
DRAIN_SECONDS = 2.0


def connect(address: str, port: int, first_line: str) -> _socket.socket:
    """A connection that has said its first line."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    connection = _socket.socket(family, _socket.SOCK_STREAM)
    connection.settimeout(CONNECT_SECONDS)
    connection.connect((address, port))
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
    connection.sendall(first_line.encode() + b"\n")
    connection.settimeout(None)
    return connection


def relay(control: _socket.socket, streams: dict[_socket.socket, int]) -> int:
    """Copy the streams until the exit code has come and they have ended; the exit code."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    for source in streams:
        poll.register(source, select.POLLIN)
    targets = {source.fileno(): (source, target) for source, target in streams.items()}
    answer = b""
    code: int | None = None
    while code is None or targets:
        events = poll.poll(None if code is None else int(DRAIN_SECONDS * 1000))
        if not events and code is not None:
            return code
        for fd, _ in events:
            if fd in targets:
                source, target = targets[fd]
                data = source.recv(65536)
                if not data:
                    poll.unregister(fd)
                    del targets[fd]
                while data:
                    data = data[os.write(target, data) :]
            else:
                data = control.recv(4096)
                answer += data
                if b"\n" in answer:
                    code = int(answer.split(b":")[1].strip(b" }\n"))
                    poll.unregister(fd)
                elif not data:
                    return FAILED
    return code


def main(arguments: list[str]) -> int:
    """Carry out one call; the exit code."""
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[1:]
    if len(arguments) < 2:
        sys.stderr.write("usage: agent [options] HOST COMMAND...\n")
        return FAILED
    host, command_line = arguments[0].rpartition("@")[2], " ".join(arguments[1:])
    places = dict(pair.split("=", 1) for pair in os.environ.get("TRAINSHED_AGENT_HOSTS", "").split(";") if pair)
    if host not in places:
        sys.stderr.write(f"trainshed: {host} is not a node of this job; its nodes are {', '.join(places)}\n")
        return FAILED
    address, _, port = places[host].rpartition(":")
    call = os.urandom(16).hex()
    token = os.environ.get("TRAINSHED_AGENT_TOKEN", "")
    proof = f'"call":"{call}","token":"{token}"'
    try:
        control = connect(address, int(port), f'{{"launch":"{command_line.encode().hex()}",{proof}}}')
        streams = {
            connect(address, int(port), f'{{"attach":"stdout",{proof}}}'): 1,
            connect(address, int(port), f'{{"attach":"stderr",{proof}}}'): 2,
        }
        return relay(control, streams)
    except OSError as error:
        sys.stderr.write(f"trainshed: the runner of {host} at {address}:{port} cannot be reached: {error}\n")
        return FAILED


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
