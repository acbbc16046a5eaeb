"""Images that tests make of the machine's own programs, without any registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
import warnings
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

from tests.volumes.servers import die_with_parent
from trainshed.runner import isolation
from trainshed.runner.containers import executor
from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.containers.settings import containers_conf, storage_conf

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import crypt

#: What an image of ours has beside bash.
PROGRAMS = (
    "sh",
    "cat",
    "ls",
    "sleep",
    "id",
    "env",
    "ps",
    "df",
    "touch",
    "mkdir",
    "rm",
    "wc",
    "tail",
    "tr",
    "sort",
    "dd",
)


@cache
def hindrance() -> str:
    """Why no container can be made here; empty when they can."""
    if os.geteuid() != 0:
        return "only root can make containers here"
    if why_not := isolation.permitted(""):
        return f"no namespaces here: {why_not}"
    try:
        executor.podman()
    except ContainerError as error:
        return f"{error.what}. {error.way_out}"
    return ""


def root_file_system(
    programs: tuple[str, ...] = ("bash", *PROGRAMS),
    more: dict[str, str] | None = None,
    copies: tuple[Path, ...] = (),
) -> bytes:
    """A tar archive with programs of the machine (names or paths) and their libraries, and text files.

    ``copies`` are files and folders of the machine that the image has at the same path.
    """
    files: dict[str, Path] = {}
    for name in programs:
        found = shutil.which(name)
        assert found, f"the machine has no {name}"
        path = Path(found).resolve()
        files[f"bin/{Path(name).name}"] = path
        files |= {library: real for library, real in _libraries(path).items() if library not in files}
    for path in copies:
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                files[str(file).lstrip("/")] = file.resolve()
    if copies:
        files |= _libraries(*(path for path in files.values() if ".so" in path.suffixes))
    texts = {"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/group": "root:x:0:\n", **(more or {})}
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder in ("bin", "etc", "root", "tmp", "proc", "sys", "dev", "run", "var/tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if "tmp" in folder else 0o755
            tar.addfile(entry)
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o755
            with path.open("rb") as file:
                tar.addfile(entry, file)
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(entry, BytesIO(text.encode()))
    return archive.getvalue()


def _libraries(*programs: Path) -> dict[str, Path]:
    """What the dynamic linker loads for them, by path without the leading slash."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout
    paths = [path for path in re.findall(r"(/\S+)", said) if ":" not in path]
    return {path.lstrip("/"): Path(path).resolve() for path in paths}


class Store:
    """An image store of the tests' own, and podman on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "store"
        for name in ("store", "run", "tmp", "runtime"):
            (folder / name).mkdir(parents=True)
        self._program, runtime = executor.podman()
        (folder / "containers.conf").write_text(containers_conf(runtime, 1024, 1024, 32768))
        (folder / "storage.conf").write_text(storage_conf("overlay", str(self.path), str(folder / "run"), ()))

    def podman(self, *arguments: str, given: bytes = b"") -> str:
        """Run it; what it prints."""
        done = subprocess.run(
            [self._program, f"--tmpdir={self.folder / 'tmp'}", *arguments],
            input=given,
            capture_output=True,
            env={
                **os.environ,
                "CONTAINERS_CONF": str(self.folder / "containers.conf"),
                "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            },
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stderr.decode())
        return done.stdout.decode().strip()

    def add(self, name: str, archive: bytes, *changes: str, arch: str = "") -> str:
        """Make an image of a root file system; its id. ``changes`` are lines as of a Dockerfile."""
        options = [f"--change={change}" for change in changes] + ([f"--arch={arch}"] if arch else [])
        return self.podman("import", "--quiet", *options, "-", name, given=archive).removeprefix("sha256:")

    def digest(self, name: str) -> str:
        """Of the image's manifest."""
        return str(json.loads(self.podman("image", "inspect", name))[0]["Digest"])


class Registry:
    """Debian's docker-registry with one user, on a port of loopback; a context manager."""

    USER, PASSWORD = "puller", "registry-password-1"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        secret = crypt.crypt(self.PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))
        (folder / "htpasswd").write_text(f"{self.USER}:{secret}\n")
        settings = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.address},
            "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
        }
        self._settings = folder / "registry.yml"
        self._settings.write_text(json.dumps(settings))
        self._log = folder / "log"

    @staticmethod
    def hindrance() -> str:
        """Why there can be none; empty when there can."""
        return "" if shutil.which("docker-registry") else "no docker-registry (apt-get install docker-registry)"

    def __enter__(self) -> Registry:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", self._settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        host, _, port = self.address.partition(":")
        until = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection((host, int(port)), 1):
                return self
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, "the registry does not answer"
            time.sleep(0.02)

    def fetched(self, name: str) -> list[str]:
        """The blobs of an image that were asked for, as often as they were."""
        return re.findall(rf"GET /v2/{name}/blobs/(\S+)", self._log.read_text())

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
