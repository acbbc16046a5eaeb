"""File servers: the engine serves them, at addresses of its own; their data is removed with them."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection

from trainshed.control.actions import Actions, EnsureFileServer
from trainshed.control.locked import locked
from trainshed.engines.protocol import EngineView, FileServerCondition, FileServerSpec, FileServerStatus
from trainshed.resources.exports import mount_settings
from trainshed.resources.lifecycle import OperationEvent, OperationVerb, ProvisioningEvent, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import file_servers, operations, removals
from trainshed.store.errors import or_none
from trainshed.store.records import FileServerRecord
from trainshed.volumes.embedded import file_server_path

log = structlog.get_logger(__name__)

_GB = 2**30


def advance_file_servers(tx: Connection, view: EngineView, actions: Actions, now: int, *, introduce: bool) -> None:
    """Have those served that are wanted, record what the engine says of them, end and forget the others.

    ``introduce``: tell the engine of all of them, since the service has just started.
    """
    served = {status.uid: status for status in view.file_servers}
    for server in file_servers.all(tx):
        status = served.pop(server.uid, None)
        if server.state is ProvisioningState.DELETING:
            _remove(tx, server, status, actions, now)
        elif server.state is ProvisioningState.FAILED:
            if status is not None:
                actions.remove_file_servers.append(server.uid)
        elif status is None or introduce:
            actions.ensure_file_servers.append(_ensure(tx, server))
        else:
            _record(tx, server, status, now)
    for uid in served:
        # Deleted while the engine was being asked for it.
        actions.remove_file_servers.append(uid)
        removals.request(tx, uid, file_server_path(uid))


def record_refused(tx: Connection, key: str, uid: str, reason: Reason, now: int) -> None:
    """The engine has said that it cannot serve it."""
    server = or_none(file_servers.get, tx, key)
    if server is not None and server.uid == uid and server.state is ProvisioningState.CREATING:
        _fail(tx, server, reason, now)


def _record(tx: Connection, server: FileServerRecord, status: FileServerStatus, now: int) -> None:
    if status.condition is FileServerCondition.STARTING:
        return
    if status.condition is FileServerCondition.FAILED:
        if server.state is ProvisioningState.CREATING and status.reason is not None:
            _fail(tx, server, status.reason, now)
        return
    reached = mount_settings(
        status.address, nfs_port=status.nfs_port, mount_port=status.mount_port, ssh_port=status.ssh_port
    )
    if reached != server.mount_settings:
        file_servers.set_mount_settings(tx, server.key, reached)
    if server.state is ProvisioningState.CREATING:
        if status.missing:
            log.warning("a file server has to do without something", file_server=server.name, missing=status.missing)
        file_servers.apply(tx, server.key, ProvisioningEvent.PROVISIONED, now)
        operations.finish_for(tx, OperationVerb.CREATE_FILE_SERVER, server.key, OperationEvent.SUCCEEDED, now)


def _fail(tx: Connection, server: FileServerRecord, why: Reason, now: int) -> None:
    text = f"{why.text} Mend that, delete the file server {server.name} and create it again."
    reason = Reason(ReasonCode.FILE_SERVER_FAILED, text, why.details)
    file_servers.apply(tx, server.key, ProvisioningEvent.PROVISIONING_FAILED, now)
    operations.finish_for(tx, OperationVerb.CREATE_FILE_SERVER, server.key, OperationEvent.FAILED, now, reason)


def _remove(
    tx: Connection, server: FileServerRecord, status: FileServerStatus | None, actions: Actions, now: int
) -> None:
    """First the engine lets go of it, then its record and its data go."""
    if status is not None:
        actions.remove_file_servers.append(server.uid)
        return
    removals.request(tx, server.uid, file_server_path(server.uid))
    file_servers.delete(tx, server.key)
    for verb in (OperationVerb.CREATE_FILE_SERVER, OperationVerb.DELETE_FILE_SERVER):
        operations.finish_for(tx, verb, server.key, OperationEvent.SUCCEEDED, now)
    actions.again = True


def _ensure(tx: Connection, server: FileServerRecord) -> EnsureFileServer:
    disks = server.definition["dataDisks"]
    ssh = server.definition["sshConfiguration"]
    account = ssh["userAccountSettings"]
    spec = FileServerSpec(
        uid=server.uid,
        name=server.name,
        disk_bytes=disks["diskCount"] * disks["diskSizeInGB"] * _GB,
        admin_name=account["adminUserName"],
        admin_key=account.get("adminUserSshPublicKey") or "",
        allowed=tuple(ssh.get("publicIPsToAllow") or ("*",)),
    )
    secrets = locked(tx, server.uid, server.workspace_key, server.definition, {}, sealed=True)
    return EnsureFileServer(server.key, spec, secrets)
