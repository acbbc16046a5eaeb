"""A Slurm of four nodes: slurmctld and slurmds are killed and started again after a while, as systemd does; so are the
processes that a job has on its nodes; Slurm's own users pre-empt jobs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.chaos import victims
from tests.chaos.grounds.ground import NODES, Deed, Ground, killing
from tests.chaos.victims import Process
from tests.engines.slurm.laboratory import settings
from tests.engines.slurm.slurm_site import Site, why_not
from tests.support import services
from tests.support.live_service import LiveService
from trainshed.cli.main import run

#: On the command lines of what a job has on its nodes beside the user's processes.
_START = "engines/slurm/node/start.py"
#: Seconds for which slurmd and slurmctld are away: with the longer ones nodes count as dead, which takes the site 6 s.
_NODE_AWAY, _CONTROLLER_AWAY = (0.5, 12.0), (0.5, 8.0)


class SlurmGround(Ground):
    """A cluster is the partition ``low``, which Slurm's own users pre-empt."""

    name = "slurm"
    #: A node whose slurmd was away when a job ended is told again three quarters of a minute later: with more kills
    #: than these hardly anything runs.
    pauses = (3.0, 7.0)
    cluster: ClassVar[Mapping[str, Any]] = {"engine": {"name": "hpc", "options": {"partition": "low"}}}

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._site = Site(NODES)
        self._directory = place / "site" / "shared"
        self._local = place / "site" / "nodes"

    @classmethod
    def why_not(cls) -> str:
        return why_not()

    @contextmanager
    def running(self) -> Iterator[LiveService]:
        site, home = settings(self.place / "site"), self.place / "home"
        given = {"directory": site.directory, "node_directory": site.node_directory, "python": site.python}
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        home.mkdir(mode=0o700)
        assert run(["engine", "add", "--home", str(home), "slurm", "hpc", *options]) == 0
        try:
            self._site.start()
            with services.running(home, more={"SLURM_CONF": str(self._site.conf)}, warm=True) as service:
                yield service
        finally:
            self._site.close()

    def deeds(self, service: LiveService) -> Sequence[Deed]:
        return (
            Deed("slurmd", 15, self._kill_node),
            Deed("slurmctld", 10, self._kill_controller),
            killing("starter", 10, self._starters),
            killing("runner", 15, self._runners),
            Deed("pre-emption", 10, self._pre_empt),
        )

    def ranks(self, service: LiveService) -> list[Process]:
        return victims.ranks_on(self.place)

    def ready(self) -> bool:
        return len(self._site.idle()) == NODES

    def left(self, service: LiveService) -> list[str]:
        """What a killed starter leaves on its node is removed by the next job there, such as the last of a run."""
        queue = [f"Slurm's job {job} is {state}" for job, state in self._site.states().items()]
        own = [path for path in self._local.glob("*/*") if path.name != ".lock"]
        folders = [*self._directory.glob("attempts/*"), *self._directory.glob("jobs/*"), *own]
        processes = [*self.ranks(service), *self._ours()]
        return [*queue, *map(str, folders), *(f"{one.pid}: {one.command}" for one in processes)]

    def logs(self) -> list[Path]:
        return [self._site.root / "log" / "slurmctld.log"]

    def _ours(self) -> list[Process]:
        return [one for one in victims.mentioning(str(self._directory)) if _START in one.command]

    def _starters(self) -> list[Process]:
        ours = self._ours()
        return [one for one in ours if one.parent not in {other.pid for other in ours} and "srun" not in one.command]

    def _runners(self) -> list[Process]:
        """Forked by the starter, whose command line they keep. So do their own children, which hold namespaces."""
        ours = {one.pid: one for one in self._ours()}

        def is_forked(one: Process) -> bool:
            return one.parent in ours and ours[one.parent].command == one.command

        return [one for one in ours.values() if is_forked(one) and not is_forked(ours[one.parent])]

    def _kill_node(self, chance: random.Random) -> str:
        name, away = chance.choice(self._site.names), round(chance.uniform(*_NODE_AWAY), 1)
        if not self._site.alive(name):
            return ""
        self._site.kill(name)
        self.later(away, f"slurmd of {name}", lambda: self._site.start_node(name))
        return f"slurmd of {name}, for {away} s"

    def _kill_controller(self, chance: random.Random) -> str:
        away = round(chance.uniform(*_CONTROLLER_AWAY), 1)
        if not self._site.alive("slurmctld"):
            return ""
        self._site.kill("slurmctld")
        self.later(away, "slurmctld", self._site.start_controller)
        return f"slurmctld, for {away} s"

    def _pre_empt(self, chance: random.Random) -> str:
        nodes = chance.choice((1, 2))
        if not self._site.alive("slurmctld"):
            return ""
        said = self._site.run(
            *("sbatch", "--parsable", "-p", "high", f"-N{nodes}", "--exclusive", "-o/dev/null", "--wrap=sleep 1"),
            check=False,
        )
        return f"pre-emption by {said} on {nodes} nodes" if said else ""
