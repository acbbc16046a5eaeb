"""What all models share: the base class, secrets, choices, and small types that occur in several resources.

Attributes are the contract's names in snake_case, aliases the contract's own (camelCase). Models are strict: a number
in quotes is not a number, ``true`` is not 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

#: Longest command line and longest value of a variable, in characters.
MAX_COMMAND = 65_536
#: Longest path, URL or id, in characters.
MAX_PATH = 4_096
#: Most entries of a list of variables, directories or volumes.
MAX_ENTRIES = 1_000


class Model(BaseModel):
    """A part of the contract. See ``trainshed.resources.parsing`` for how bodies become models."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, strict=True, extra="ignore", hide_input_in_errors=True
    )

    #: JSON members that the service sets; ignored without a word when a client sends them back.
    read_only: ClassVar[frozenset[str]] = frozenset()
    #: JSON members that only versions after 2018-05-01 have.
    since_2026: ClassVar[frozenset[str]] = frozenset()


class Secret:
    """A value that goes in and never comes out: it neither prints nor serialises. ``reveal`` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value, to be sealed at once."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret cannot be pickled or copied")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(strict=True, min_length=1, max_length=MAX_COMMAND)
        return core_schema.no_info_wrap_validator_function(
            lambda given, read: given if isinstance(given, cls) else cls(read(given)),
            text,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda _: "***", return_schema=core_schema.str_schema()
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "writeOnly": True, "format": "password"}


#: A secret's value as a field: left out of everything that is written.
SecretField = Annotated[Secret | None, Field(exclude=True)]


def choice(*values: str) -> Callable[[Any], Any]:
    """For BeforeValidator: a known value in any case becomes the contract's spelling; others are left to be refused."""
    spelling = {value.lower(): value for value in values}
    return lambda given: spelling.get(given.lower(), given) if isinstance(given, str) else given


def upper(given: Any) -> Any:
    """For BeforeValidator: text in upper case."""
    return given.upper() if isinstance(given, str) else given


CommandLine = Annotated[str, Field(max_length=MAX_COMMAND)]
Path = Annotated[str, Field(min_length=1, max_length=MAX_PATH)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
VmSizeName = Annotated[str, BeforeValidator(upper), Field(min_length=1, max_length=64, examples=["STANDARD_D2"])]


class ResourceRef(Model):
    """A reference to another resource by its id."""

    id: Path = Field(description="The id of the resource", examples=["/subscriptions/{s}/resourceGroups/{g}/..."])


class KeyVaultSecretReference(Model):
    """Where a key vault keeps a secret. A reference is not secret itself and is returned."""

    source_vault: ResourceRef = Field(description="The vault")
    secret_url: Path = Field(description="URL of the secret in the vault")


class EnvironmentVariable(Model):
    """A variable of a job or a setup task."""

    name: Annotated[str, Field(max_length=256)] = Field(description="Name of the variable", examples=["EPOCHS"])
    value: CommandLine = Field(description="Its value; may name other variables as $NAME", examples=["10"])


class SecretVariable(Model):
    """EnvironmentVariableWithSecretValue of the contract: ``value`` is never returned."""

    name: Annotated[str, Field(max_length=256)] = Field(description="Name of the variable", examples=["TOKEN"])
    value: SecretField = Field(default=None, description="Its value; never returned")
    value_secret_reference: KeyVaultSecretReference | None = None


EnvironmentVariables = Annotated[list[EnvironmentVariable], Field(max_length=MAX_ENTRIES)]
SecretVariables = Annotated[list[SecretVariable], Field(max_length=MAX_ENTRIES)]
