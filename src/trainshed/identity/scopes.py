"""Scopes: where a role counts. The service, a subscription, a resource group, a workspace; each holds what is below.

The text is an ARM path; the *key* is its names in lower case, ``/subscription/group/workspace``, and ``/`` for all.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainshed.resources import names
from trainshed.resources.errors import InvalidResource

INVALID_SCOPE = "InvalidScope"
_SHAPE = "/subscriptions/{s}[/resourceGroups/{g}[/providers/Microsoft.BatchAI/workspaces/{w}]], or / for everything"


@dataclass(frozen=True, slots=True)
class Scope:
    """A place in the tree; empty names from the one that is not given on."""

    subscription: str = ""
    group: str = ""
    workspace: str = ""

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read a path; fixed segments in any case. Raises InvalidResource (InvalidScope)."""
        parts = [part for part in text.strip().split("/") if part]
        fixed = [part.lower() for part in parts[::2]]
        if len(parts) == 8 and parts[5].lower() == "microsoft.batchai" and parts[6].lower() == "workspaces":
            fixed = [*fixed[:2], "workspaces"]
            parts = [*parts[:4], "workspaces", parts[7]]
        expected = ["subscriptions", "resourcegroups", "workspaces"][: len(parts) // 2]
        found = parts[1::2]
        rules = (names.is_subscription, names.is_group, names.is_name)
        good = text.strip().startswith("/") and len(parts) in (0, 2, 4, 6) and fixed == expected
        if not good or not all(rule(name) for rule, name in zip(rules, found, strict=False)):
            shown = text if len(text) <= 200 else f"{text[:197]}..."
            raise InvalidResource.of(INVALID_SCOPE, f"'{shown}' is not a scope. Expected {_SHAPE}.", "scope")
        return cls(*found)

    @classmethod
    def of_key(cls, key: str) -> Scope:
        """The scope of a key that ``key`` made; its names are in lower case."""
        return cls(*(part for part in key.split("/") if part))

    @property
    def key(self) -> str:
        """What scopes are compared by."""
        return "/" + "/".join(name for name in (self.subscription, self.group, self.workspace) if name).lower()

    def __str__(self) -> str:
        if not self.subscription:
            return "/"
        text = f"/subscriptions/{self.subscription}"
        if self.group:
            text += f"/resourceGroups/{self.group}"
        if self.workspace:
            text += f"/providers/Microsoft.BatchAI/workspaces/{self.workspace}"
        return text


#: The service as a whole.
ROOT = Scope()


def holds(outer: str, inner: str) -> bool:
    """Whether the scope of key ``outer`` is ``inner`` or above it."""
    return outer == "/" or inner == outer or inner.startswith(f"{outer}/")
