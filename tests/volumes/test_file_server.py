"""The driver of file servers, on real ones of the local engine: by our NFS client where the kernel has none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engines.conftest import run_in_lab
from tests.engines.lab import Lab, eventually
from tests.support.machine import needs_namespaces
from trainshed.engines.local.fileserver import nfs
from trainshed.engines.protocol import FileServerCondition, FileServerSpec, FileServerStatus
from trainshed.resources.exports import mount_settings
from trainshed.volumes.file_server import kernel_has_nfs
from trainshed.volumes.libnfs import Server, available
from trainshed.volumes.nfs_reading import NfsReader
from trainshed.volumes.reading import Unreadable

pytestmark = [
    needs_namespaces,
    pytest.mark.slow,
    pytest.mark.skipif(bool(nfs.why_not()), reason=f"no file servers here: {nfs.why_not()}"),
    pytest.mark.skipif(not available(), reason="libnfs is not installed: apt-get install libnfs13"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this machine has no FUSE"),
]

_SUPPORT = Path(__file__).parents[1] / "support"
_CHECKS = (sys.executable, str(_SUPPORT / "file_system_checks.py"))
UID = 1900001000
SIZE = 2**28
#: Its address follows from it, and other processes of these tests have servers too.
SERVER = f"v{os.getpid()}"


@dataclass
class Served:
    """A file server that serves, as long as the fixture lives."""

    home: Path
    folder: Path
    status: FileServerStatus
    #: Runs a coroutine in the lab's loop.
    run: Callable[[Any], Any]
    lab: Lab
    _mounts: list[subprocess.Popen[str]] = field(default_factory=list)

    def mount(self, *command: str, uid: int = UID, **settings: Any) -> subprocess.Popen[str]:
        """The mount program, with a mount point of its own."""
        place = self.folder / f"mount-{len(self._mounts) + 1}"
        reached = mount_settings(self.status.address, nfs_port=self.status.nfs_port, mount_port=self.status.mount_port)
        request = {
            "kind": "fileServers",
            "title": "file server fs",
            "settings": {"mountSettings": reached, **settings},
            "uid": uid,
            "target": str(place / "target"),
            "folder": str(place / "folder"),
        }
        process = subprocess.Popen(
            [sys.executable, str(_SUPPORT / "mount_program.py"), json.dumps(request), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.PIPE,
            text=True,
        )
        self._mounts.append(process)
        return process

    def end_mounts(self) -> None:
        """Those of tests that failed half-way; their clients die with them."""
        for process in self._mounts:
            process.kill()
            process.wait()

    def run_on(self, *command: str, **settings: Any) -> str:
        """The output of a command on the mounted file server, that succeeds."""
        process = self.mount(*command, **settings)
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 0, said
        return said

    def servers(self) -> list[int]:
        """Processes that are its NFS server."""
        mark = f"fileservers/{self.status.uid}"
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if "ganesha.nfsd" in command and mark in command and str(self.home) in command:
                    found.append(int(entry.name))
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One file server for the tests of this file."""
    folder = tmp_path_factory.mktemp("served")
    home = folder / "home"
    ready = threading.Event()
    over = threading.Event()
    holding: dict[str, Any] = {}

    async def body(lab: Lab) -> None:
        await lab.engine.ensure_file_server(FileServerSpec(SERVER, "fs", SIZE, "demo"))
        holding.update(lab=lab, loop=asyncio.get_running_loop(), status=await serving(lab, SERVER))
        ready.set()
        await asyncio.to_thread(over.wait)

    def whole() -> None:
        try:
            run_in_lab(home, body)
        finally:
            ready.set()

    thread = threading.Thread(target=whole)
    thread.start()
    try:
        assert ready.wait(60) and "status" in holding

        def run(coroutine: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, holding["loop"]).result(60)

        served = Served(home, folder, holding["status"], run, holding["lab"])
        try:
            yield served
        finally:
            served.end_mounts()
    finally:
        over.set()
        thread.join(60)


async def serving(lab: Lab, uid: str) -> FileServerStatus:
    """Its status, once it serves."""
    return await lab.until(
        lambda view: next(
            (s for s in view.file_servers if s.uid == uid and s.condition is FileServerCondition.SERVING), None
        ),
        "a file server that serves",
    )


@pytest.mark.skipif(kernel_has_nfs(), reason="the kernel has NFS: the client in user space is not used")
def test_programs_find_a_file_system_there(served: Served, record_property: Callable[[str, object], None]) -> None:
    said = served.run_on(*_CHECKS, "{}")
    record_property("throughput", said.splitlines()[-1])
    assert "by an NFS client in user space" in said


def test_files_appear_as_the_jobs_users_and_lie_as_the_services(served: Served) -> None:
    # The folders of tests are closed to others: it is entered first.
    job = f"import os; os.chdir('{{}}'); os.setresuid({UID}, {UID}, {UID}); open('mine', 'w').write('x'); os.mkdir('d')"
    told = served.run_on(sys.executable, "-c", f"{job}; s = os.stat('mine'); print(s.st_uid, s.st_gid)")
    assert told.split()[-2:] == [str(UID), str(UID)]
    reader = NfsReader(_server(served), "", "fs")
    assert {"mine", "d"} <= {entry.name for entry in reader.list("", None, 100)}


def test_a_job_goes_on_when_the_server_was_killed(served: Served) -> None:
    """Five times -9, at once again and again: what was written before and after is there, in order."""
    script = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "log = open('log', 'w')\n"
        "for number in range(400):\n"
        "    print(number, file=log, flush=True)\n"
        "    open(f'n{number}', 'w').write(str(number))\n"
        "    if number == 50: print('half', flush=True)\n"
        "    if number == 100: sys.stdin.readline()\n"
        "log.close()\n"
        "assert open('log').read().split() == [str(n) for n in range(400)]\n"
        "assert all(open(f'n{n}').read() == str(n) for n in range(400))\n"
        "print('all there')\n"
    )
    process = served.mount(sys.executable, "-c", script, "{}")
    assert process.stdout is not None and process.stdin is not None
    assert any("half" in line for line in process.stdout)
    for _ in range(5):
        for pid in served.servers():
            os.kill(pid, signal.SIGKILL)
        served.run(eventually(lambda: served.servers(), "a new server"))
    process.stdin.write("go\n")
    process.stdin.flush()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "all there" in said
    served.run(serving(served.lab, SERVER))


def test_the_whole_process_of_a_server_may_die(served: Served) -> None:
    """Its disks are mounted anew, perhaps on another device: clients go on, and so does an open file."""
    script = (
        "import sys\n"
        "file = open(sys.argv[1] + '/survivor', 'w')\n"
        "print('before', file=file, flush=True)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print('after', file=file, flush=True)\n"
        "print(open(sys.argv[1] + '/survivor').read().split())\n"
    )
    process = served.mount(sys.executable, "-c", script, "{}")
    assert process.stdout is not None and process.stdin is not None
    assert any("ready" in line for line in process.stdout)
    (server,) = served.servers()
    keeper = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    served.run(eventually(lambda: server not in served.servers() and served.servers(), "a new server"))
    served.run(serving(served.lab, SERVER))
    process.stdin.write("go\n")
    process.stdin.flush()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "['before', 'after']" in said, said


def test_what_one_node_writes_another_reads(served: Served) -> None:
    served.run_on("sh", "-c", "mkdir -p {}/shared/deep; echo hello > {}/shared/deep/file")
    said = served.run_on("cat", "{}/deep/file", sourceDirectory="/mnt/data/shared", mountOptions="ro")
    assert said.splitlines()[-1] == "hello"
    process = served.mount("touch", "{}/new", mountOptions="ro")
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Read-only file system" in told


#: 200 small files and a large one with their checksums, and then a file that is never closed.
_WRITER = """
set -e; cd "$0"; mkdir kept; cd kept; for n in $(seq 200); do echo $n > small-$n; done
dd if=/dev/urandom of=big bs=1M count=150 status=none; sha256sum small-* big > sums
exec 3> half; echo half >&3; echo written; exec sleep 1000
"""
_READER = 'cd "$0/kept" && sha256sum --quiet -c sums && ls | wc -l'


def test_what_was_closed_is_there_when_job_and_mount_are_killed(served: Served) -> None:
    reader = served.mount("sh", "-c", f"read go; {_READER}", "{}")
    writer = served.mount("sh", "-c", _WRITER, "{}")
    assert writer.stdout is not None and any("written" in line for line in writer.stdout)
    for process in psutil.Process(writer.pid).children(recursive=True):
        process.kill()
    writer.kill()
    writer.wait(60)
    # Another node that had it mounted all the time, and one that mounts it now.
    told, _ = reader.communicate("go\n", timeout=90)
    assert reader.returncode == 0 and told.split()[-1] == "203", told
    assert served.run_on("sh", "-c", f"{_READER} && rm -r $0/kept", "{}").split()[-1] == "203"


def test_writers_of_full_disks_are_told(served: Served) -> None:
    script = (
        "import errno, os\n"
        "try:\n"
        "    with open('{}/full', 'wb') as file:\n"
        "        for _ in range(300): file.write(bytes(2**20))\n"
        "except OSError as error: print(errno.errorcode[error.errno])\n"
        "os.remove('{}/full'); print(os.statvfs('{}').f_blocks * os.statvfs('{}').f_frsize)\n"
    )
    said = served.run_on(sys.executable, "-c", script).split()
    assert said[-2] == "ENOSPC"
    assert 0.8 * SIZE < int(said[-1]) <= SIZE


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sourceDirectory": "nowhere"}, "make it from a job that mounts all of it"),
        ({"sourceDirectory": "../.."}, "leads out of the file server's data"),
        ({"mountOptions": "rw,sec=krb5"}, "have the option sec=krb5, which cannot be honoured"),
    ],
)
def test_what_cannot_be_mounted_says_why(served: Served, settings: dict[str, str], told: str) -> None:
    process = served.mount("true", **settings)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 9 and told in said, said


def test_nothing_is_mounted_or_running_afterwards(served: Served) -> None:
    served.run_on("true")
    assert "fuse.nfs" not in Path("/proc/self/mounts").read_text()


def test_the_service_reads_it_by_nfs(served: Served) -> None:
    script = (
        "cd {}; mkdir -p out/sub; printf 12345 > out/a.txt; ln -s a.txt out/link; ln -s /etc/passwd out/evil; "
        "ln -s ../../.. out/up; ln -s sub out/folder; ln -s loop out/loop; echo x > out/sub/b"
    )
    served.run_on("sh", "-c", script)
    reader = NfsReader(_server(served), "out", "fs")
    listed = [(entry.name, entry.is_directory, entry.size) for entry in reader.list("", None, 100)]
    assert listed == [("a.txt", False, 5), ("folder", True, 0), ("link", False, 5), ("sub", True, 0)]
    assert [entry.name for entry in reader.list("", "a.txt", 2)] == ["folder", "link"]
    assert [entry.name for entry in reader.list("folder", None, 10)] == ["b"]
    assert reader.list("nowhere", None, 10) == []
    assert reader.open("evil") is None and reader.open("up") is None and reader.open("sub") is None
    file = reader.open("link")
    assert file is not None
    assert (file.facts().size, file.read(1, 3), file.read(5, 10)) == (5, b"234", b"")
    file.close()
    file.close()


def test_the_service_reads_on_after_the_server_was_killed(served: Served) -> None:
    served.run_on("sh", "-c", "echo kept > {}/read-on")
    reader = NfsReader(_server(served), "", "fs")
    file = reader.open("read-on")
    assert file is not None
    for pid in served.servers():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unreadable, match="fs cannot be read now"):
        file.read(0, 10)
    file.close()

    def again() -> bool:
        try:
            found = reader.open("read-on")
        except Unreadable:
            return False
        assert found is not None
        with contextlib.closing(found):
            return found.read(0, 10) == b"kept\n"

    served.run(eventually(again, "an answer"))


def _server(served: Served) -> Server:
    status = served.status
    assert status.nfs_port is not None and status.mount_port is not None
    return Server(status.address, "/mnt/data", status.nfs_port, status.mount_port)
