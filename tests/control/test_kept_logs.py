"""Logs that were kept for a job leave with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.control.conftest import World
from tests.support.factories import make_cluster, make_job
from trainshed.control.housekeeping import Housekeeping
from trainshed.control.kept_logs import kept
from trainshed.resources import directories

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[World], Awaitable[None]]], None]


def keep(home: Path, segment: str) -> Path:
    """A kept log of the job with this segment."""
    folder = Path(directories.kept_logs(str(home / "clusters/c-uid/mounts"), segment), "0")
    folder.mkdir(parents=True)
    (folder / "stdout.txt").write_text("said\n")
    return folder


def test_only_those_of_jobs_that_are_gone_are_removed(run: Run) -> None:
    async def scenario(world: World) -> None:
        job = await world.write(lambda tx: make_job(tx, make_cluster(tx)))
        staying = keep(world.home, directories.segment("s", "g", "w", "e", "here", job.uid))
        # Of the same name: a job that was deleted, and the one that came after it.
        gone = keep(world.home, directories.segment("s", "g", "w", "e", "here", "another-uid"))
        await Housekeeping(world.db, world.settings).remove_kept_logs()
        assert (staying / "stdout.txt").read_text() == "said\n"
        assert not gone.parents[1].exists()

    run(scenario)


def test_links_that_a_job_left_there_lead_nowhere(run: Run, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        others = tmp_path / "others"
        precious = others / "e/jobs/j/uid/precious"
        precious.mkdir(parents=True)
        folder = keep(world.home, directories.segment("s", "g", "w", "e", "j", "uid"))
        (folder / "link").symlink_to(others)
        experiments = folder.parents[5]
        assert experiments.name == "experiments"
        experiments.with_name("linked").symlink_to(others)
        workspaces = experiments.parents[1]
        (workspaces / "v").mkdir()
        (workspaces / "v/experiments").symlink_to(others)
        assert [one.uid for one in kept(world.home)] == ["uid"]
        await Housekeeping(world.db, world.settings).remove_kept_logs()
        assert precious.exists() and not folder.exists()

    run(scenario)


def test_it_is_looked_for_at_the_start_and_then_rarely(run: Run) -> None:
    async def scenario(world: World) -> None:
        house = Housekeeping(world.db, world.settings)
        assert house.sweep_is_due() and not house.sweep_is_due()
        # The world's own controller has not looked since its start.
        gone = keep(world.home, directories.segment("s", "g", "w", "e", "j", "uid"))
        again = world.make_controller()
        await world.controller.stop()
        world.controller = again
        await again.start()
        await world.until(lambda _: not gone.exists())

    run(scenario)
