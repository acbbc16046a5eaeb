"""A Slurm site by its command line tools (``site.Site``). Few calls, however many jobs there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress

from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm import parsing
from trainshed.engines.slurm.commands import Commands, Refused
from trainshed.engines.slurm.owners import Owner
from trainshed.engines.slurm.parsing import NodeLine, QueueLine
from trainshed.resources.reasons import Reason, ReasonCode

#: Jobs that one call names at most.
_AT_ONCE = 500


class CommandSite:
    """Speaks through ``commands``, which run here or on a login node."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._own_number = ""

    async def close(self) -> None:
        """There is nothing to close."""

    @property
    def place(self) -> str:
        """Where the commands run."""
        return f"commands on {self._commands.place}"

    async def queue(self, users: Collection[Owner] = (), *, ended: bool = False) -> list[QueueLine]:
        """Jobs of the service's own user, and of these, that are not over; with ``ended`` all that slurmctld still
        knows (MinJobAge).
        """
        whose = "--me"
        if users:
            self._own_number = self._own_number or (await self._ask("id", "-u")).strip()
            whose = f"--user={','.join([self._own_number, *sorted(str(user.uid) for user in users)])}"
        arguments = [whose, "--noheader", "--array", f"--Format={parsing.QUEUE_FORMAT}"]
        if ended:
            arguments.append("--states=all")
        return parsing.parse_queue(await self._ask("squeue", *arguments))

    async def nodes(self) -> list[NodeLine]:
        """All nodes, once for each of their partitions."""
        return parsing.parse_nodes(await self._ask("sinfo", "--noheader", "--Node", f"--format={parsing.NODES_FORMAT}"))

    async def config(self) -> dict[str, str]:
        """``scontrol show config``."""
        return parsing.parse_config(await self._ask("scontrol", "show", "config"))

    async def version(self) -> str:
        """As Slurm says it."""
        return (await self._ask("sinfo", "--version")).strip()

    async def ended(self, jobs: Collection[str]) -> dict[str, str]:
        """Final states of jobs that slurmctld has dropped, by number; none where there is no accounting."""
        found: dict[str, str] = {}
        with suppress(Refused):
            for part in _parts(jobs):
                told = await self._commands.run(
                    "sacct",
                    "--allocations",
                    "--array",
                    "--noheader",
                    "--parsable2",
                    f"--jobs={','.join(part)}",
                    f"--format={parsing.ACCOUNTING_FORMAT}",
                )
                found |= {line.job: line.state for line in parsing.parse_accounting(told)}
        return found

    async def cancel(self, jobs: Collection[str], user: Owner | None = None) -> None:
        """``scancel`` of jobs of this user (None: the service's own); of those that have ended nothing is said."""
        for part in _parts(jobs):
            with suppress(Refused):
                await self._commands.run("scancel", *part, user=user)

    async def submit(self, arguments: list[str], script: str, user: Owner | None = None) -> str:
        """The number of a job of this user. Raises Refused with Slurm's words; Unsure when it may have been taken."""
        said = await self._commands.run("sbatch", *arguments, stdin=script, user=user)
        job = parsing.parse_submitted(said)
        if not job:
            raise Refused(f"sbatch said no number of a job: {said.strip()[:200]}")
        return job

    async def associations(self) -> set[tuple[str, str]]:
        """``sacctmgr show associations``."""
        told = await self._commands.run(
            "sacctmgr", "--noheader", "--parsable2", "show", "associations", "format=account,user"
        )
        pairs = (line.partition("|")[::2] for line in told.splitlines())
        return {(account, user) for account, user in pairs if account}

    async def try_out(self, arguments: list[str], user: Owner | None = None) -> bool:
        """``sbatch --test-only``."""
        await self._commands.run("sbatch", "--test-only", *arguments, "--wrap=true", user=user)
        return True

    async def _ask(self, name: str, *arguments: str) -> str:
        try:
            return await self._commands.run(name, *arguments)
        except Refused as error:
            raise EngineUnavailable(
                Reason(
                    ReasonCode.ENGINE_UNAVAILABLE,
                    f"{name} on {self._commands.place} says: {error}. Check that Slurm's commands work there.",
                    {"said": str(error)[:500]},
                )
            ) from error


def _parts(jobs: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(jobs)
    return (ordered[at : at + _AT_ONCE] for at in range(0, len(ordered), _AT_ONCE))
