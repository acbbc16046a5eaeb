"""What is asked of a Slurm site, however it is reached: its command line tools, here or on a login node, or slurmrestd.

What is submitted is said in arguments of ``sbatch``: they are kept, and may be needed again after a restart.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Protocol

from trainshed.engines.slurm.command_site import CommandSite
from trainshed.engines.slurm.commands import Commands, passed_on
from trainshed.engines.slurm.owners import Owner
from trainshed.engines.slurm.parsing import NodeLine, QueueLine
from trainshed.engines.slurm.rest.connection import Connection
from trainshed.engines.slurm.rest.site import RestSite
from trainshed.engines.slurm.rest.token import Token
from trainshed.engines.slurm.settings import SlurmSettings


class Site(Protocol):
    """One site. Methods raise EngineUnavailable when it does not answer."""

    @property
    def place(self) -> str:
        """How it is reached, for people."""
        ...

    async def queue(self, users: Collection[Owner] = (), *, ended: bool = False) -> list[QueueLine]:
        """Jobs of the service's own user, and of these: at least those that are not over; with ``ended`` all that
        slurmctld still knows (MinJobAge). One call, however many there are.
        """
        ...

    async def nodes(self) -> list[NodeLine]:
        """All nodes, once for each of their partitions."""
        ...

    async def config(self) -> dict[str, str]:
        """As ``scontrol show config`` has it; empty where that is not told."""
        ...

    async def version(self) -> str:
        """As Slurm says it."""
        ...

    async def ended(self, jobs: Collection[str]) -> dict[str, str]:
        """Final states of jobs that slurmctld has dropped, by number; none where there is no accounting."""
        ...

    async def cancel(self, jobs: Collection[str], user: Owner | None = None) -> None:
        """End jobs of this user (None: the service's own); of those that have ended nothing is said."""
        ...

    async def submit(self, arguments: list[str], script: str, user: Owner | None = None) -> str:
        """The number of a job of this user. Raises Refused with Slurm's words; Unsure when it may have been taken."""
        ...

    async def associations(self) -> set[tuple[str, str]]:
        """Accounts with their users, as accounting has them. Raises Refused where nobody tells."""
        ...

    async def try_out(self, arguments: list[str], user: Owner | None = None) -> bool:
        """Whether Slurm was asked if it would take such a job. Raises Refused when it would not."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


def site_of(settings: SlurmSettings, environment: Mapping[str, str] = os.environ) -> Site:
    """As the settings say. ``environment``: from which commands and jobs get what they need."""
    if not settings.rest_url:
        return CommandSite(Commands(settings.ssh, settings.seconds, environment))
    given = passed_on(environment)
    token = Token(settings.token_file, settings.token_command, settings.seconds, given)
    return RestSite(Connection(settings.rest_url, settings.rest_user, token, settings.seconds), given)
