"""Bodies of what concerns callers: principals, personal access tokens, role assignments."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from trainshed.resources.common import MAX_PATH, Model, choice

_ENVELOPE = frozenset({"id", "name", "type"})
_NAME = re.compile(r"[^\s/\\\x00-\x1f\x7f](?:[^/\\\x00-\x1f\x7f]{0,126}[^\s/\\\x00-\x1f\x7f])?")

NAME_RULE = "1 to 128 characters without '/' and '\\', not beginning or ending with a space, and not a GUID"
#: Names that mean somebody else already.
RESERVED = frozenset({"administrator", "me"})

PrincipalKindName = Annotated[
    Literal["User", "ServicePrincipal"], BeforeValidator(choice("User", "ServicePrincipal"))
]  # fmt: skip


def is_principal_name(text: str) -> bool:
    """Whether somebody may be called so."""
    return _NAME.fullmatch(text) is not None and text.isprintable() and not is_guid(text)


def is_guid(text: str) -> bool:
    """Whether this is a GUID in its usual form, in any case."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


class PrincipalProperties(Model):
    """Somebody who may call: a person, or a program."""

    read_only: ClassVar[frozenset[str]] = frozenset({"creationTime", "issuer", "subject"})

    kind: PrincipalKindName = Field(default="User", description="User or ServicePrincipal")
    display_name: str | None = Field(default=None, min_length=1, max_length=128, description="As people call them")
    disabled: bool = Field(default=False, description="Locked out: no token of theirs is accepted")


class PrincipalCreate(Model):
    """Body of PUT principal; usually empty."""

    read_only: ClassVar[frozenset[str]] = _ENVELOPE

    properties: PrincipalProperties = Field(default_factory=PrincipalProperties)


class TokenProperties(Model):
    """A personal access token: what it is for, how long it lives, and what it allows at most."""

    display_name: str = Field(min_length=1, max_length=128, description="What it is for", examples=["laptop"])
    expires_in_days: int = Field(default=30, ge=1, le=366, description="Days until it expires")
    scope: str | None = Field(default=None, min_length=1, max_length=MAX_PATH, description="It counts here and below")
    role: str | None = Field(default=None, min_length=1, max_length=MAX_PATH, description="It allows no more than this")


class TokenCreate(Model):
    """Body of POST tokens."""

    read_only: ClassVar[frozenset[str]] = _ENVELOPE

    properties: TokenProperties


class RoleAssignmentProperties(Model):
    """Who gets which role; the scope is in the path."""

    read_only: ClassVar[frozenset[str]] = frozenset(
        {"scope", "principalType", "createdOn", "updatedOn", "createdBy", "updatedBy", "roleName", "principalName"}
    )

    role_definition_id: str = Field(
        min_length=1, max_length=MAX_PATH, description="Id or name of the role", examples=["Contributor"]
    )
    principal_id: str = Field(min_length=1, max_length=256, description="Object id or name of the principal")


class RoleAssignmentCreate(Model):
    """Body of PUT roleAssignments."""

    read_only: ClassVar[frozenset[str]] = _ENVELOPE

    properties: RoleAssignmentProperties
