"""Rules that clusters and jobs share: variables, secrets, credentials, volumes, accounts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from trainshed.resources import names
from trainshed.resources.cluster import UserAccountSettings
from trainshed.resources.common import EnvironmentVariable, KeyVaultSecretReference, Secret, SecretVariable
from trainshed.resources.findings import Findings
from trainshed.resources.mounts import AzureStorageCredentials, MountVolumes
from trainshed.resources.newer_mount_checks import check_bucket, check_host_directory, check_repository, check_sftp

_SHARE_URL = re.compile(r"https?://[^/\s]+/[^\s]+", re.ASCII)
_MODE = re.compile(r"[0-7]{3,4}", re.ASCII)


def check_variables(
    findings: Findings,
    path: str,
    variables: Iterable[EnvironmentVariable] | None,
    secrets: Iterable[SecretVariable] | None,
) -> None:
    """Names are shell identifiers, each once over variables and secrets, none the service's; secrets have a value."""
    seen: dict[str, str] = {}
    for index, variable in enumerate(variables or []):
        place = f"{path}.environmentVariables[{index}]"
        _check_variable_name(findings, place, variable.name, seen)
        if "\0" in variable.value:
            findings.rule(f"{place}.value", "holds a NUL character, which no variable can.")
    for index, secret in enumerate(secrets or []):
        place = f"{path}.secrets[{index}]"
        _check_variable_name(findings, place, secret.name, seen)
        check_secret(findings, place, "value", secret.value, secret.value_secret_reference)


def _check_variable_name(findings: Findings, place: str, name: str, seen: dict[str, str]) -> None:
    place = f"{place}.name"
    if not names.is_identifier(name):
        findings.value(place, name, f"cannot be a variable's name. It has {names.IDENTIFIER_RULE}.")
    elif name.upper().startswith(names.RESERVED_VARIABLE_PREFIX):
        prefix = names.RESERVED_VARIABLE_PREFIX
        findings.value(place, name, f"is reserved: variables that begin with {prefix} are the service's. Rename it.")
    elif name in seen:
        findings.value(place, name, f"occurs twice, also at {seen[name]}. Give each variable once.")
    seen.setdefault(name, place)


def check_secret(
    findings: Findings, path: str, member: str, value: Secret | None, reference: KeyVaultSecretReference | None
) -> None:
    """A secret's value or a reference to it: exactly one of the two."""
    other = f"{member}SecretReference"
    if (value is None) == (reference is None):
        found = "both" if value is not None else "neither"
        findings.rule(path, f"needs exactly one of {member} and {other}; it has {found}.")


def check_volumes(findings: Findings, path: str, volumes: MountVolumes | None) -> None:
    """Relative mount paths stay below the root and are each used once; credentials are complete."""
    if volumes is None:
        return
    seen: dict[PurePosixPath, str] = {}
    for index, share in enumerate(volumes.azure_file_shares or []):
        place = f"{path}.azureFileShares[{index}]"
        if not _SHARE_URL.fullmatch(share.azure_file_url):
            way_out = "is not the URL of a share. Write for example https://account.file.core.windows.net/share."
            findings.value(f"{place}.azureFileUrl", share.azure_file_url, way_out)
        for member, mode in (("fileMode", share.file_mode), ("directoryMode", share.directory_mode)):
            if not _MODE.fullmatch(mode):
                findings.value(f"{place}.{member}", mode, "is not an octal mode. Write for example 0777.")
        _check_credentials(findings, place, share.credentials)
        _check_relative_path(findings, place, share.relative_mount_path, seen)
    for index, container in enumerate(volumes.azure_blob_file_systems or []):
        place = f"{path}.azureBlobFileSystems[{index}]"
        _check_credentials(findings, place, container.credentials)
        _check_relative_path(findings, place, container.relative_mount_path, seen)
    for index, server in enumerate(volumes.file_servers or []):
        place = f"{path}.fileServers[{index}]"
        if not server.file_server.id.lower().startswith("/subscriptions/"):
            way_out = "is not a resource id. Write /subscriptions/{s}/resourceGroups/{g}/.../fileservers/{f}."
            findings.value(f"{place}.fileServer.id", server.file_server.id, way_out)
        _check_relative_path(findings, place, server.relative_mount_path, seen)
    for index, unmanaged in enumerate(volumes.unmanaged_file_systems or []):
        place = f"{path}.unmanagedFileSystems[{index}]"
        if not unmanaged.mount_command.strip():
            findings.value(f"{place}.mountCommand", unmanaged.mount_command, "is empty. Give the command that mounts.")
        _check_relative_path(findings, place, unmanaged.relative_mount_path, seen)
    for index, bucket in enumerate(volumes.s3_buckets or []):
        check_bucket(findings, f"{path}.s3Buckets[{index}]", bucket)
        _check_relative_path(findings, f"{path}.s3Buckets[{index}]", bucket.relative_mount_path, seen)
    for index, remote in enumerate(volumes.sftp_directories or []):
        check_sftp(findings, f"{path}.sftpDirectories[{index}]", remote)
        _check_relative_path(findings, f"{path}.sftpDirectories[{index}]", remote.relative_mount_path, seen)
    for index, directory in enumerate(volumes.host_directories or []):
        check_host_directory(findings, f"{path}.hostDirectories[{index}]", directory)
        _check_relative_path(findings, f"{path}.hostDirectories[{index}]", directory.relative_mount_path, seen)
    for index, repository in enumerate(volumes.git_repositories or []):
        check_repository(findings, f"{path}.gitRepositories[{index}]", repository)
        _check_relative_path(findings, f"{path}.gitRepositories[{index}]", repository.relative_mount_path, seen)


def _check_credentials(findings: Findings, place: str, credentials: AzureStorageCredentials) -> None:
    key, reference = credentials.account_key, credentials.account_key_secret_reference
    check_secret(findings, f"{place}.credentials", "accountKey", key, reference)


def _check_relative_path(findings: Findings, place: str, text: str, seen: dict[PurePosixPath, str]) -> None:
    place = f"{place}.relativeMountPath"
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in text:
        findings.value(place, text, "must be a path below the mount root: relative and without '..', for example data.")
    elif path in seen:
        findings.value(place, text, f"is used twice, also at {seen[path]}. Give each volume a path of its own.")
    else:
        seen[path] = place


def check_account(findings: Findings, path: str, account: UserAccountSettings) -> None:
    """The administrator's name is usable, and there is a way to sign in."""
    name = account.admin_user_name
    if name.lower() in names.RESERVED_USERS:
        findings.value(
            f"{path}.adminUserName", name, "is taken: the nodes' image has a group of that name. Use another."
        )
    elif not names.is_user(name):
        findings.value(f"{path}.adminUserName", name, f"cannot be a user's name. It has {names.USER_RULE}.")
    if account.admin_user_password is None and account.admin_user_ssh_public_key is None:
        findings.rule(path, "needs adminUserPassword or adminUserSshPublicKey, or both; it has neither.")
