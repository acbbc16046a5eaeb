"""As whom jobs are handed to Slurm: the administrator's map, read again when it has changed."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from trainshed.engines.protocol import EngineError, EngineUnavailable, GangSpec
from trainshed.engines.slurm.mapping import SAME_NAME, UserMap, Whom
from trainshed.engines.slurm.orders import Cluster, check_own_user
from trainshed.engines.slurm.owners import Owner, owner_of
from trainshed.engines.slurm.settings import InvalidSettings, SlurmSettings
from trainshed.resources.reasons import Reason, ReasonCode


class NotMapped(EngineError):
    """This site does not take jobs of that submitter in that workspace."""


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who a job is on the site."""

    account: str = ""
    qos: str = ""
    #: The Unix user; None: the service's own.
    owner: Owner | None = None


class Users:
    """The map of one engine."""

    def __init__(self, settings: SlurmSettings) -> None:
        self._settings = settings
        self._read: UserMap | None = None
        self._of: tuple[int, ...] = ()
        self._lock = threading.Lock()

    def submitter(self, gang: GangSpec, cluster: Cluster) -> Submitter:
        """As whom an attempt is submitted. Blocks for a moment.

        Raises NotMapped, EngineUnavailable while the map cannot be used, EngineError where jobs are kept apart.
        """
        if not self._settings.map:
            check_own_user(gang, self._settings)
            return Submitter()
        try:
            rules = self._current()
        except InvalidSettings as error:
            text = f"{error}. Jobs that are handed over now wait until it is mended; see trainshed doctor."
            raise EngineUnavailable(Reason(ReasonCode.ENGINE_UNAVAILABLE, text, {"setting": "map"})) from error
        try:
            whom = rules.find(gang.submitter, gang.subscription, gang.resource_group, gang.workspace)
            owner = owner_of(whom.unix_user, same_name=whom.same_name) if whom and whom.unix_user else None
        except InvalidSettings as error:
            raise NotMapped(self._not_mapped(gang, str(error))) from error
        if whom is None:
            raise NotMapped(self._not_mapped(gang, "no rule of the site's map of users fits"))
        if owner is None:
            check_own_user(gang, self._settings)
        elif cluster.has_setup:
            raise NotMapped(_no_setup(cluster, owner))
        return Submitter(whom.account, whom.qos, owner)

    def _current(self) -> UserMap:
        with self._lock:
            try:
                facts = Path(self._settings.map).stat()
                now = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            except OSError:
                now = (0, 0, 0)
            if self._read is None or now != self._of:
                self._read, self._of = read_map(self._settings.map), now
            return self._read

    def _not_mapped(self, gang: GangSpec, why: str) -> Reason:
        who = gang.submitter or "somebody without a name"
        text = (
            f"This Slurm site does not take jobs of {who} in workspace {gang.workspace}: {why}. Ask the administrator "
            f"of the service for a rule in {self._settings.map}, and submit the job again."
        )
        return Reason(
            ReasonCode.JOB_LAUNCH_FAILED, text, {"setting": "map", "user": gang.submitter, "workspace": gang.workspace}
        )


def _no_setup(cluster: Cluster, owner: Owner) -> Reason:
    text = (
        f"Cluster {cluster.name} has nodeSetup, which on Slurm the jobs themselves carry out, and this one runs as the "
        f"Unix user {owner.name}, who may not. Use a cluster without nodeSetup; prepare in jobPreparation."
    )
    return Reason(ReasonCode.JOB_LAUNCH_FAILED, text, {"setting": "map", "cluster": cluster.name})


def read_map(path: str) -> UserMap:
    """Raises InvalidSettings, which names the file and the rule."""
    try:
        facts = Path(path).stat()
        if facts.st_uid not in (0, os.geteuid()) or stat.S_IMODE(facts.st_mode) & 0o022:
            raise InvalidSettings(
                f"the map {path} says who runs as whom, and others may write it; mend it: chown root {path}; chmod "
                f"go-w {path}"
            )
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"the map {path} cannot be read: {error}") from error
    try:
        return UserMap.parse(text)
    except InvalidSettings as error:
        raise InvalidSettings(f"the map {path} is not right: {error}") from None


def names_of(rules: UserMap) -> tuple[Whom, ...]:
    """What can be looked at before anybody has submitted anything: all but rules for the submitter's own name."""
    return tuple(whom for whom in rules.targets if whom.unix_user != SAME_NAME)
