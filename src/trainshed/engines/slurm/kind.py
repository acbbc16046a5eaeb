"""Slurm as a kind of engine that an administrator can add, and what clusters may ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from trainshed.engines.checks import Check
from trainshed.engines.kind import EngineKind, Making
from trainshed.engines.protocol import Engine
from trainshed.engines.slurm.doctor import examine
from trainshed.engines.slurm.engine import SlurmEngine
from trainshed.engines.slurm.owners import owner_of
from trainshed.engines.slurm.rest.submission import check as check_arguments
from trainshed.engines.slurm.settings import (
    CLUSTER_OPTIONS,
    ENGINE_SETTINGS,
    ClusterOptions,
    InvalidSettings,
    SlurmSettings,
)
from trainshed.engines.slurm.users import names_of, read_map
from trainshed.resources.engines import InvalidEngines, Option


def _make(making: Making) -> Engine:
    try:
        settings = SlurmSettings.parse(making.settings)
        settings.check_together()
        if settings.rest_url:
            check_arguments(settings.sbatch_arguments)
    except InvalidSettings as error:
        raise InvalidEngines(f"the settings of engine {making.name!r} are not right: {error}") from error
    return SlurmEngine(making.name, settings, making.leader, home=str(making.home.absolute()))


def _admit(making: Making) -> None:
    if path := SlurmSettings.parse(making.settings).map:
        try:
            rules = read_map(path)
            for whom in names_of(rules):
                if whom.unix_user:
                    owner_of(whom.unix_user)
        except InvalidSettings as error:
            raise InvalidEngines(f"the settings of engine {making.name!r} are not right: {error}") from error


def _examine(making: Making) -> list[Check]:
    return asyncio.run(examine(SlurmSettings.parse(making.settings)))


def _setting(name: str) -> Callable[[str], str | None]:
    def check(value: str) -> str | None:
        return _problem(lambda: SlurmSettings.parse({"directory": "/anywhere", name: value}))

    return check


def _cluster_option(name: str) -> Callable[[str], str | None]:
    return lambda value: _problem(lambda: ClusterOptions.parse({name: value}))


def _problem(parse: Callable[[], object]) -> str | None:
    try:
        parse()
    except InvalidSettings as error:
        return f"{error}."
    return None


KIND = EngineKind(
    name="slurm",
    summary="an HPC cluster with Slurm, which queues, places, pre-empts and requeues",
    traits=SlurmEngine.traits,
    settings=tuple(
        Option(name, help_, required=name == "directory", check=_setting(name))
        for name, help_ in ENGINE_SETTINGS.items()
    ),
    cluster_options=tuple(Option(name, help_, check=_cluster_option(name)) for name, help_ in CLUSTER_OPTIONS.items()),
    make=_make,
    doctor=_examine,
    admit=_admit,
    bootstrap="trainshed.engines.slurm.bootstrap.setup",
)
