"""The folder of a job on a node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainshed.engines.slurm.node.own import Own


def own(folder: Path, node: str, job: int = 7) -> Own:
    return Own(str(folder), {"SLURM_JOB_ID": str(job), "SLURMD_NODENAME": node})


def test_it_has_one_path_on_nodes_with_disks_of_their_own(tmp_path: Path) -> None:
    for name in ("n1", "n2"):
        (tmp_path / name).mkdir()
    first, second = (own(tmp_path / name, name) for name in ("n1", "n2"))
    assert first.folder.relative_to(tmp_path / "n1") == second.folder.relative_to(tmp_path / "n2")
    for one in (first, second):
        one.close()
        assert not one.folder.exists()


def test_nodes_that_share_a_machine_have_folders_of_their_own(tmp_path: Path) -> None:
    """However close together they begin."""
    names = [f"n{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        for job in range(20):
            made = list(pool.map(lambda name, job=job: own(tmp_path, name, job), names))  # type: ignore[misc]
            folders = {one.folder for one in made}
            assert len(folders) == len(names) and all((folder / "lock").exists() for folder in folders)
            assert [folder.name for folder in folders].count(f"{job}-0") == 1
            for one in made:
                one.close()


def test_what_a_killed_job_left_is_removed_by_the_next(tmp_path: Path) -> None:
    first = own(tmp_path, "n1")
    left = first.folder.with_name("6-0")
    left.mkdir()
    (left / "lock").touch()
    second = own(tmp_path, "n1", 8)
    assert not left.exists() and first.folder.exists()
    first.close()
    second.close()
