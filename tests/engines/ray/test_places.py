"""What the nodes need is in the directory, and is enough."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from trainshed.engines.ray.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(tmp_path / "directory")
    made.make()
    return made


def test_the_program_of_the_nodes_needs_the_standard_library_alone(places: Places) -> None:
    program = places.bring_package()
    load = "from trainshed.engines.ray import warden; print(warden.__file__)"
    code = f"import sys; sys.path.insert(0, {str(program)!r}); {load}"
    # Without site there are no packages.
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(program))


def test_it_is_brought_once(places: Places) -> None:
    program = places.bring_package()
    before = program.stat().st_ino
    assert places.bring_package() == program
    assert program.stat().st_ino == before
    assert [path.name for path in program.parent.iterdir()] == [program.name]


def test_the_engine_keeps_its_identity(places: Places) -> None:
    assert places.identity() == Places(places.directory).identity()
    assert len(places.identity()) == 12


def test_code_is_brought_by_its_content(places: Places, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"print()").hexdigest()
    stored = tmp_path / "store" / digest[:2] / digest
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"print()")
    manifest = {"a.py": {"sha256": digest, "mode": 0o644}, "b.py": {"sha256": digest, "mode": 0o644}}
    folder = places.bring_code(str(tmp_path / "store"), manifest)
    stored.unlink()
    assert places.bring_code(str(tmp_path / "store"), manifest) == folder
    assert Path(folder, digest[:2], digest).read_bytes() == b"print()"


def test_what_is_a_node_s_alone_may_be_on_its_own_disk(tmp_path: Path) -> None:
    shared, local = Places(tmp_path / "shared"), Places(tmp_path / "shared", tmp_path / "local")
    assert shared.node("n").jobs("n").is_relative_to(tmp_path / "shared")
    assert local.node("n").jobs("n").is_relative_to(tmp_path / "local")
    # But all nodes of a gang must see its shared temp directory, and the cluster's.
    assert local.shared_jobs("n").is_relative_to(tmp_path / "shared")
    assert local.node("n").mount_root("u") == shared.mount_root("u")
    assert local.node("n").mark != shared.node("n").mark
