"""Who a job is to Slurm: rules from a file of the administrator's. Pure: text in, rules out.

The first rule that fits who submitted a job, and its workspace, says which account it is charged to, at which quality
of service, and which Unix user of the site it runs as.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

import yaml

from trainshed.engines.slurm.settings import InvalidSettings, check_value

_RULE = ("user", "workspace", "account", "qos", "unix_user")
_EXAMPLE = "rules: [{user: ann, workspace: vision, account: vision, unix_user: ann}]"
#: In ``unix_user``: the submitter's name up to its ``@``.
SAME_NAME = "{name}"
#: What useradd(8) takes; Slurm and shells need no quoting of it.
_UNIX_NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Whom:
    """Who a job is to Slurm; what is empty is the cluster's, or the service's own."""

    account: str = ""
    qos: str = ""
    #: A Unix user of the site; empty: the service's.
    unix_user: str = ""
    #: Whether that is the submitter's own name rather than one that the administrator wrote down.
    same_name: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """Patterns (``*``, ``?``, ``[...]``, in any case of letters) and what they lead to; an empty pattern fits all."""

    user: str
    workspace: str
    whom: Whom

    def fits(self, user: str, places: tuple[str, ...]) -> bool:
        """Whether it is about this submitter and a workspace that has these names."""
        return _fits(self.user, (user,)) and _fits(self.workspace, places)


@dataclass(frozen=True, slots=True)
class UserMap:
    """All rules, in order."""

    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of YAML (or JSON). Raises InvalidSettings, which names the rule."""
        try:
            given = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidSettings(f"it is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(given, dict) or not isinstance(given.get("rules"), list) or set(given) - {"rules", "default"}:
            raise InvalidSettings(f"it must have 'rules', perhaps 'default', and nothing else, such as {_EXAMPLE}")
        rules = [_rule(rule, f"rules[{index}]") for index, rule in enumerate(given["rules"])]
        default = given.get("default", "refuse")
        if default != "refuse":
            if isinstance(default, dict) and (pattern := {"user", "workspace"} & set(default)):
                raise InvalidSettings(f"default is for everybody and every workspace, and has no {min(pattern)!r}")
            rules.append(_rule(default, "default", "; or it is 'refuse'"))
        if not rules:
            raise InvalidSettings(f"it has no rule, so every job would be refused; for example: {_EXAMPLE}")
        return cls(tuple(rules))

    def find(self, user: str, subscription: str, group: str, workspace: str) -> Whom | None:
        """Who a job of this submitter in this workspace is; None when no rule fits.

        Raises InvalidSettings when the submitter's own name is to be that of a Unix user and cannot be.
        """
        places = (workspace, f"{group}/{workspace}", f"{subscription}/{group}/{workspace}")
        found = next((rule.whom for rule in self.rules if rule.fits(user, places)), None)
        if found is None or found.unix_user != SAME_NAME:
            return found
        name = user.partition("@")[0].lower()
        if not _UNIX_NAME.fullmatch(name):
            raise InvalidSettings(f"{user or 'a submitter without a name'!r} is no name of a Unix user")
        return Whom(found.account, found.qos, name, True)

    @property
    def targets(self) -> tuple[Whom, ...]:
        """What rules lead to, each once."""
        return tuple(dict.fromkeys(rule.whom for rule in self.rules))


def _rule(given: Any, where: str, else_: str = "") -> Rule:
    if not isinstance(given, dict):
        raise InvalidSettings(f"{where} must be an object with some of {', '.join(_RULE)}{else_}")
    unknown = sorted(str(name) for name in set(given) - set(_RULE))
    if unknown:
        raise InvalidSettings(f"{where} has {unknown[0]!r}, which is not known; there are {', '.join(_RULE)}")
    texts = {name: _text(given, name, where) for name in _RULE}
    whom = Whom(texts["account"], texts["qos"], texts["unix_user"])
    if whom == Whom():
        raise InvalidSettings(f"{where} leads to nothing: give it an account, a qos or a unix_user")
    for name in ("account", "qos"):
        if texts[name]:
            check_value(f"{where}.{name}", texts[name])
    if whom.unix_user not in ("", SAME_NAME) and not _UNIX_NAME.fullmatch(whom.unix_user):
        raise InvalidSettings(
            f"{where}.unix_user must be the name of a Unix user, or {SAME_NAME} for the submitter's own, not "
            f"'{whom.unix_user}'"
        )
    if whom.unix_user == "root":
        raise InvalidSettings(f"{where}.unix_user cannot be root: jobs never run as that")
    return Rule(texts["user"], texts["workspace"], whom)


def _text(given: Mapping[str, Any], name: str, where: str) -> str:
    value = given.get(name, "")
    if isinstance(value, bool) or not isinstance(value, str | int) or (name in given and value == ""):
        raise InvalidSettings(f"{where}.{name} must be a text, and not empty; leave it out where it is not wanted")
    return str(value)


def _fits(pattern: str, names: tuple[str, ...]) -> bool:
    return not pattern or any(fnmatchcase(name.lower(), pattern.lower()) for name in names)
