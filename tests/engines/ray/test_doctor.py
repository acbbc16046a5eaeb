"""What ``trainshed doctor`` says of a Ray engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.ray.cluster import RayNodes
from trainshed.engines.ray.doctor import checks
from trainshed.engines.ray.settings import RaySettings


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("a token")
    path.chmod(0o600)
    return path


def test_a_head_that_is_away(tmp_path: Path, token: Path) -> None:
    """Nobody listens on port 1."""
    found = checks("boxes", RaySettings("127.0.0.2:1", str(tmp_path / "ray"), token_file=str(token)))
    assert [(check.name, check.ok) for check in found] == [
        ("engine boxes directory", True),
        ("engine boxes token", True),
        ("engine boxes", False),
    ]
    assert "127.0.0.2:1" in found[-1].detail and "ray start --head" in found[-1].mend


def test_what_is_wrong_on_the_service_s_machine(tmp_path: Path, token: Path) -> None:
    token.chmod(0o644)
    (tmp_path / "file").touch()
    found = checks("boxes", RaySettings("127.0.0.2:1", str(tmp_path / "file" / "ray"), token_file=str(token)))
    assert [check.ok for check in found] == [False, False, False]
    assert found[1].mend == f"chmod 600 {token}"
    absent = checks("boxes", RaySettings("127.0.0.2:1", str(tmp_path), token_file=str(tmp_path / "none")))
    assert "get-auth-token" in absent[1].mend


@pytest.mark.slow
def test_a_cluster_whose_nodes_see_the_directory(ray_nodes: RayNodes, tmp_path: Path) -> None:
    settings = RaySettings(ray_nodes.address, str(tmp_path / "ray"), token_file=str(ray_nodes.token_file))
    found = checks("boxes", settings)
    assert all(check.ok for check in found), found
    assert "CPUs, 0 GPUs" in found[-1].detail and ray_nodes.address in found[-1].detail
    assert list((tmp_path / "ray").iterdir()) == []
