"""File servers: provisioned with an address and a directory, and removed with it.

What is recorded here is lifecycle and addresses: nothing serves behind the address yet.
"""

from __future__ import annotations

from sqlalchemy import Connection

from trainshed.control.actions import Actions, MakeFileServer
from trainshed.control.settings import ControlSettings
from trainshed.resources.fileserver import mount_settings
from trainshed.resources.lifecycle import OperationEvent, OperationVerb, ProvisioningEvent, ProvisioningState
from trainshed.resources.reasons import Reason, ReasonCode
from trainshed.store import file_servers, operations, removals
from trainshed.store.errors import or_none
from trainshed.volumes.embedded import file_server_path


def advance_file_servers(tx: Connection, actions: Actions, now: int) -> None:
    """Have new ones made, and forget those whose deletion was asked for; their directories follow."""
    for server in file_servers.changing(tx):
        if server.state is ProvisioningState.CREATING:
            actions.make_file_servers.append(MakeFileServer(server.key, server.uid))
            continue
        removals.request(tx, server.uid, file_server_path(server.uid))
        file_servers.delete(tx, server.key)
        for verb in (OperationVerb.CREATE_FILE_SERVER, OperationVerb.DELETE_FILE_SERVER):
            operations.finish_for(tx, verb, server.key, OperationEvent.SUCCEEDED, now)
        actions.again = True


def record_made(tx: Connection, made: MakeFileServer, settings: ControlSettings, failure: str | None) -> None:
    """Its directory is there (or, with ``failure``, is not to be had): it gets an address and is provisioned."""
    now = settings.clock()
    server = or_none(file_servers.get, tx, made.key)
    if server is None or server.uid != made.uid:
        # Deleted meanwhile, perhaps before the directory was made.
        removals.request(tx, made.uid, file_server_path(made.uid))
        return
    if server.state is not ProvisioningState.CREATING:
        return
    address = None
    if failure is None:
        if settings.file_server_address is None:
            failure = "this service's engine has no addresses for file servers"
        else:
            used = {(other.mount_settings or {}).get("fileServerInternalIP", "") for other in file_servers.all(tx)}
            try:
                address = settings.file_server_address(server.uid, used)
            except OSError as error:
                failure = str(error)
    if address is None:
        reason = Reason(
            ReasonCode.FILE_SERVER_FAILED,
            f"The file server {server.name} could not be made: {failure}. Mend that, delete it and create it again.",
        )
        file_servers.apply(tx, server.key, ProvisioningEvent.PROVISIONING_FAILED, now)
        operations.finish_for(tx, OperationVerb.CREATE_FILE_SERVER, server.key, OperationEvent.FAILED, now, reason)
        return
    file_servers.set_mount_settings(tx, server.key, mount_settings(address))
    file_servers.apply(tx, server.key, ProvisioningEvent.PROVISIONED, now)
    operations.finish_for(tx, OperationVerb.CREATE_FILE_SERVER, server.key, OperationEvent.SUCCEEDED, now)
