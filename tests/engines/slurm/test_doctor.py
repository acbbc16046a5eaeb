"""What ``trainshed doctor`` says of a site."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.slurm.laboratory import settings
from tests.engines.slurm.slurm_site import Site
from trainshed.engines.checks import Check
from trainshed.engines.slurm.doctor import _what_delays, examine
from trainshed.engines.slurm.settings import SlurmSettings


def examined(site: Site, given: SlurmSettings, **environment: str) -> dict[str, Check]:
    found = asyncio.run(examine(given, {**site.environment, **environment}))
    return {check.name: check for check in found}


@pytest.mark.slow
def test_a_site_that_is_well(slurm_site: Site, tmp_path: Path) -> None:
    slurm_site.clear()
    checks = examined(slurm_site, settings(tmp_path))
    assert [name for name, check in checks.items() if not check.ok and check.needed] == []
    assert "cluster lab" in checks["slurm"].detail
    assert "4 nodes, 4 ready" in checks["partition"].detail
    assert "sees" in checks["a node"].detail
    assert "s from sbatch to the first line" in checks["time to start"].detail
    assert "waits 5 s" in checks["requeue"].detail
    assert list((tmp_path / "shared").iterdir()) == []
    slurm_site.clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"cluster": "partition=no-such"}, "partition", "there is no partition no-such; there are: batch, high, low"),
        ({"python": "/bin/false"}, "a node", "must be Python 3.11 or later; it has none"),
        ({"directory": "/proc/no-such"}, "shared directory", "cannot be written here"),
        ({"node_directory": "/proc/1/no-such"}, "a node", "is not writable there"),
    ],
)
def test_what_is_wrong_is_said_with_what_mends_it(
    slurm_site: Site, tmp_path: Path, changes: dict[str, str], name: str, said: str
) -> None:
    check = examined(slurm_site, replace(settings(tmp_path), **changes))[name]
    assert not check.ok and said in check.detail and check.mend


@pytest.mark.slow
def test_a_controller_that_is_away(slurm_site: Site, tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    conf.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", slurm_site.conf.read_text()))
    checks = examined(slurm_site, settings(tmp_path), SLURM_CONF=str(conf))
    assert not checks["slurm"].ok and "cannot be reached" in checks["slurm"].detail and "munge" in checks["slurm"].mend
    assert set(checks) == {"slurm", "shared directory"}


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"SchedulerParameters": "(null)", "Epilog": "(null)"}, 3),
        ({"SchedulerParameters": "batch_sched_delay=0,bf_interval=2", "Epilog": "/bin/true"}, 0),
        ({"SchedulerParameters": "batch_sched_delay=0", "Epilog[0]": "/bin/true"}, 1),
    ],
)
def test_what_delays_jobs(config: dict[str, str], count: int) -> None:
    assert len(_what_delays(config)) == count


@pytest.mark.slow
def test_whether_a_node_reaches_a_service_that_shares_no_file_system_with_it(slurm_site: Site, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {"report_to": f"127.0.0.1:{port}", "python": sys.executable}

    def checked(**more: str) -> Check:
        found = SlurmSettings.parse({**given, **more})
        (check,) = [
            one for one in asyncio.run(examine(found, slurm_site.environment, tmp_path / "own")) if one.name == "a node"
        ]
        return check

    assert checked().ok and f"127.0.0.1:{port}" in checked().detail
    elsewhere = checked(report_to="127.0.0.1:1", listen=f"127.0.0.1:{port}")
    assert not elsewhere.ok and "refused" in elsewhere.detail and "report_to" in (elsewhere.mend or "")
    with socket.create_server(("127.0.0.1", port)):
        somebody = checked()
    assert not somebody.ok
    nowhere = checked(listen="192.0.2.1:1")
    assert not nowhere.ok and "nobody can listen" in nowhere.detail
