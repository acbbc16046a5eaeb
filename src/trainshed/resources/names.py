"""Rules for names (rest-contract section 5, behaviour 1.2)."""

from __future__ import annotations

import re

from trainshed.resources.errors import INVALID_RESOURCE_NAME, InvalidResource

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_GROUP = re.compile(r"[-\w.]{0,89}[-\w]", re.ASCII)
_SUBSCRIPTION = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_LOCATION = re.compile(r"[A-Za-z0-9_. -]{1,64}", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_STORAGE_ACCOUNT = re.compile(r"[a-z0-9]{3,24}", re.ASCII)
_CONTAINER = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", re.ASCII)

NAME_RULE = "1 to 64 characters: letters A-Z and a-z, digits, '-' and '_'"
GROUP_RULE = "1 to 90 characters: letters A-Z and a-z, digits, '-', '_' and '.', not ending in '.'"
SUBSCRIPTION_RULE = "1 to 64 characters: letters A-Z and a-z, digits, '-', '_' and '.'; usually a GUID"
LOCATION_RULE = "1 to 64 characters: letters A-Z and a-z, digits, spaces, '-', '_' and '.', for example northeurope"
IDENTIFIER_RULE = "a letter or '_' followed by letters, digits and '_', for example DATA_1"
STORAGE_ACCOUNT_RULE = "3 to 24 characters: lower-case letters and digits"
CONTAINER_RULE = "3 to 63 characters: lower-case letters, digits and single '-' between them"
USER_RULE = "1 to 32 characters: a letter or '_' followed by letters, digits, '_', '-' and '.'"

#: The subscription of a laptop, where nobody has one.
LOCAL_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
#: Containers of these names have a meaning of their own.
_SPECIAL_CONTAINERS = frozenset({"$root", "$logs", "$web"})
#: User names that the nodes' image already uses as a group (behaviour 1.2).
RESERVED_USERS = frozenset({"admin"})
#: Variables of this prefix belong to the service.
RESERVED_VARIABLE_PREFIX = "AZ_BATCHAI_"


def is_name(text: str) -> bool:
    """Whether a workspace, cluster, file server, experiment or job may have this name."""
    return _NAME.fullmatch(text) is not None


def is_group(text: str) -> bool:
    """Whether a resource group may have this name."""
    return _GROUP.fullmatch(text) is not None


def is_subscription(text: str) -> bool:
    """Whether a subscription may have this id."""
    return _SUBSCRIPTION.fullmatch(text) is not None


def is_location(text: str) -> bool:
    """Whether this can be a region's name."""
    return _LOCATION.fullmatch(text) is not None


def is_identifier(text: str) -> bool:
    """Whether this can be (the end of) the name of an environment variable."""
    return len(text) <= 256 and _IDENTIFIER.fullmatch(text) is not None


def is_user(text: str) -> bool:
    """Whether an account of this name can be made on a node."""
    return _USER.fullmatch(text) is not None and text.lower() not in RESERVED_USERS


def is_storage_account(text: str) -> bool:
    """Whether a storage account may have this name."""
    return _STORAGE_ACCOUNT.fullmatch(text) is not None


def is_container(text: str) -> bool:
    """Whether a share or a container of a storage account may have this name."""
    return _CONTAINER.fullmatch(text) is not None or text in _SPECIAL_CONTAINERS


def normal_location(location: str) -> str:
    """Azure reads ``North Europe`` and ``northeurope`` as the same region."""
    return location.replace(" ", "").lower()


def check_name(noun: str, name: str) -> None:
    """Raise InvalidResource unless ``name`` is allowed for a ``noun`` such as ``workspace`` or ``job``."""
    _check(is_name(name), noun, name, NAME_RULE, f"{noun}Name")


def check_group(name: str) -> None:
    """Raise InvalidResource unless ``name`` is allowed for a resource group."""
    _check(is_group(name), "resource group", name, GROUP_RULE, "resourceGroupName")


def check_subscription(name: str) -> None:
    """Raise InvalidResource unless ``name`` is allowed as subscription id."""
    _check(is_subscription(name), "subscription", name, SUBSCRIPTION_RULE, "subscriptionId")


def check_location(name: str) -> None:
    """Raise InvalidResource unless ``name`` can be a region."""
    _check(is_location(name), "location", name, LOCATION_RULE, "location")


def check_storage_account(name: str) -> None:
    """Raise InvalidResource unless ``name`` is allowed for a storage account."""
    _check(is_storage_account(name), "storage account", name, STORAGE_ACCOUNT_RULE, "accountName")


def _check(allowed: bool, noun: str, name: str, rule: str, target: str) -> None:
    if not allowed:
        shown = name if len(name) <= 100 else f"{name[:97]}..."
        message = f"The {noun} name '{shown}' is not allowed. A name has {rule}."
        raise InvalidResource.of(INVALID_RESOURCE_NAME, message, target)
