"""A description as it is stored: the contract's JSON with defaults, and its secrets apart from it.

The *definition* never holds a secret's value; ``secrets_of`` gives the values by their place, so that they can be
sealed, and ``job_secret_environment`` brings the two together again for the runner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel

from trainshed.resources.common import Model, Secret
from trainshed.resources.errors import InvalidResource
from trainshed.resources.ids import ResourceId

#: Where the password of a file server's administrator lies.
FILE_SERVER_PASSWORD = "/sshConfiguration/userAccountSettings/adminUserPassword"
#: Where the secrets lie that are variables of the job and of the setup task.
JOB_SECRET_VARIABLES, SETUP_SECRET_VARIABLES = "/secrets", "/nodeSetup/setupTask/secrets"


def definition(model: Model) -> dict[str, Any]:
    """``properties`` in the contract's JSON form, defaults filled in, values of secrets left out.

    Credentials given as a key become ``{}``, a secret variable keeps its name, an account loses its password.
    """
    return _properties(model).model_dump(mode="json", by_alias=True, exclude_none=True)


def secrets_of(model: Model) -> dict[str, str]:
    """The values of all secrets by their place below ``properties``, as JSON pointers.

    For example ``/mountVolumes/azureFileShares/0/credentials/accountKey``; a secret variable's is the variable's own
    place, ``/secrets/0``.
    """
    return dict(_walk(_properties(model), ""))


def job_secret_environment(definition: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """Values of a job's secret variables by name; those given by reference only are absent."""
    return _secret_variables(definition.get("secrets"), JOB_SECRET_VARIABLES, secrets)


def setup_secret_environment(definition: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """Values of the secret variables of a cluster's setup task by name."""
    task = (definition.get("nodeSetup") or {}).get("setupTask") or {}
    return _secret_variables(task.get("secrets"), SETUP_SECRET_VARIABLES, secrets)


def mounted_file_servers(volumes: Mapping[str, Any] | None) -> set[str]:
    """Keys of the file servers that ``mountVolumes`` names."""
    found = set()
    for mount in (volumes or {}).get("fileServers") or ():
        with suppress(InvalidResource):
            found.add(ResourceId.parse(mount["fileServer"]["id"]).key)
    return found


def _secret_variables(variables: Any, place: str, secrets: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for index, variable in enumerate(variables or []):
        value = secrets.get(f"{place}/{index}")
        if value is not None:
            found[variable["name"]] = value
    return found


def _properties(model: Model) -> BaseModel:
    properties = getattr(model, "properties", None)
    return properties if isinstance(properties, BaseModel) else model


def _walk(value: object, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Secret):
        yield place, value.reveal()
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            alias = field.alias or name
            is_variable = isinstance(inner, Secret) and alias == "value"
            yield from _walk(inner, place if is_variable else f"{place}/{alias}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _walk(inner, f"{place}/{index}")
