"""What ``trainshed doctor`` says of the map of users: whether each of them, and each account, is there."""

from __future__ import annotations

import os
from pathlib import Path

from trainshed.engines.checks import Check
from trainshed.engines.protocol import EngineUnavailable
from trainshed.engines.slurm.commands import Refused
from trainshed.engines.slurm.mapping import Whom
from trainshed.engines.slurm.owners import Owner, acting_as, owner_of
from trainshed.engines.slurm.settings import InvalidSettings, SlurmSettings
from trainshed.engines.slurm.site import Site
from trainshed.engines.slurm.users import names_of, read_map

_NAME = "users and accounts"
#: Targets of rules that are tried at most: each costs a call.
_TRIED = 50


async def examine_users(settings: SlurmSettings, site: Site) -> list[Check]:
    """Nothing where there is no map."""
    if not settings.map:
        return []
    try:
        targets = names_of(read_map(settings.map))
    except InvalidSettings as error:
        return [Check(_NAME, False, str(error), f"edit {settings.map}; the service reads it again by itself")]
    known, without = await _associations(site)
    problems = []
    for whom in targets[:_TRIED]:
        problem = await _problem(whom, settings, site, known)
        if problem is not None:
            problems.append(f"{_told(whom)}: {problem}")
    if problems:
        mend = f"edit {settings.map}, or: sacctmgr add account NAME; sacctmgr add user NAME account=ACCOUNT"
        return [Check(_NAME, False, "; ".join(problems), mend)]
    detail = f"{settings.map}: {', '.join(map(_told, targets)) or 'rules for the submitters own names alone'}"
    return [Check(_NAME, True, detail + without)]


def _told(whom: Whom) -> str:
    named = (("user", whom.unix_user), ("account", whom.account), ("qos", whom.qos))
    return " ".join(f"{name} {value}" for name, value in named if value)


async def _problem(whom: Whom, settings: SlurmSettings, site: Site, known: set[tuple[str, str]] | None) -> str | None:
    owner: Owner | None = None
    try:
        if whom.unix_user:
            owner = owner_of(whom.unix_user)
            _pass_through(settings, owner)
    except (InvalidSettings, OSError) as error:
        return str(error)
    if known is not None and whom.account:
        if whom.account not in {account for account, _ in known}:
            return f"accounting has no account {whom.account}"
        if owner is not None and (whom.account, owner.name) not in known:
            return f"{owner.name} is no member of the account {whom.account}"
    options = settings.options({}).charged_to(whom.account, whom.qos).sbatch
    arguments = ["--job-name=trainshed-doctor", "--time=1", "--chdir=/"]
    try:
        await site.try_out([*arguments, *(f"--{n}={v}" for n, v in options)], owner)
    except (Refused, EngineUnavailable) as error:
        said = error.reason.text if isinstance(error, EngineUnavailable) else str(error)
        return f"Slurm would refuse its jobs: {said[:300]}"
    return None


def _pass_through(settings: SlurmSettings, owner: Owner) -> None:
    """Raises InvalidSettings where the user does not get to the directory."""
    with acting_as(owner):
        for folder in [*reversed(Path(settings.directory).parents), Path(settings.directory)]:
            try:
                os.stat(f"{folder}/.")  # noqa: PTH116 - asks for the right to pass, which a Path would drop
            except PermissionError:
                text = f"cannot pass through {folder} to the shared directory; mend it: chmod o+x {folder}"
                raise InvalidSettings(text) from None


async def _associations(site: Site) -> tuple[set[tuple[str, str]] | None, str]:
    """Pairs of account and user of Slurm's accounting; None with why they are not known."""
    try:
        return await site.associations(), ""
    except (EngineUnavailable, Refused) as error:
        said = (
            error.reason.details.get("said", error.reason.text) if isinstance(error, EngineUnavailable) else str(error)
        )
        return None, f" (accounts are not looked up: {said[:160]})"
