"""One site from beginning to end, for the command line: look, plan, carry out, and what the engine is told of it."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable, Mapping, Sequence

from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.bootstrap.carry_out import Outcome, carry_out
from trainshed.engines.slurm.bootstrap.plan import Plan, plan
from trainshed.engines.slurm.bootstrap.request import Request, parse_hosts, parse_mode
from trainshed.engines.slurm.bootstrap.ssh import Shell, Ssh
from trainshed.engines.slurm.bootstrap.survey import Survey, survey
from trainshed.engines.slurm.bootstrap.undo import undo
from trainshed.engines.slurm.commands import Commands, Refused
from trainshed.resources.engines import check_name


class Setup:
    """A site, and the way to its hosts. Nothing is done by making one."""

    def __init__(
        self,
        site: str,
        *,
        hosts: str,
        directory: str,
        user: str = "root",
        port: int | None = None,
        ssh_options: Sequence[str] = (),
        partition: str = "main",
        low_partition: str = "",
        mode: str | None = None,
        shell: Shell | None = None,
    ) -> None:
        """Raises InvalidEngines. ``shell``: another way to the hosts than ssh."""
        check_name(site)
        self.request = Request(
            site=site,
            hosts=parse_hosts(hosts),
            job_user=getpass.getuser(),
            job_uid=os.geteuid(),
            directory=directory.rstrip("/") or "/",
            partition=partition,
            low_partition=low_partition,
            mode=parse_mode(mode),
        )
        self._shell = shell or Ssh(user, port, tuple(ssh_options))

    def look(self) -> Survey:
        """At all hosts."""
        return asyncio.run(survey(self._shell, self.request))

    def plan(self, seen: Survey, *, take_away: bool = False) -> Plan:
        """What is to be done; ``take_away``: to undo what an earlier one did."""
        if seen.problems:
            return Plan(problems=seen.problems)
        return (undo if take_away else plan)(self.request, seen.facts)

    def carry_out(self, planned: Plan, tell: Callable[[Outcome], None]) -> list[Outcome]:
        """Up to the first stage that fails somewhere."""
        return asyncio.run(carry_out(self._shell, planned.steps, tell))

    def settings(self, seen: Survey, former: Mapping[str, str]) -> dict[str, str]:
        """Of the engine, for ``trainshed engine add``; what an administrator set besides is kept."""
        ssh = {} if seen.first_is_here else {"ssh": self.request.first.name}
        kept = {name: value for name, value in former.items() if name != "ssh"}
        default = {"cluster": f"partition={self.request.partition}"}
        return {**default, **kept, **ssh, "directory": self.request.directory}

    def unreached(self, settings: Mapping[str, str]) -> str:
        """Why the service does not get at Slurm's commands with these settings; empty when it does."""
        try:
            asyncio.run(Commands(settings.get("ssh", ""), 30.0).run("sinfo", "--version"))
        except (EngineUnavailable, Refused) as error:
            text = error.reason.text if isinstance(error, EngineUnavailable) else str(error)
            host = settings.get("ssh", "this machine")
            return (
                f"{text} The service runs 'ssh {host}' without options, as {self.request.job_user}: "
                "put its user, port and key into ~/.ssh/config"
            )
        return ""
