"""Errors as a person reads them: ``error: CODE: message``, what the details say, and ``try:`` with a command."""

from __future__ import annotations

import click

from trainshed.client.errors import ClientError, NotFoundError, ServiceError

NOT_FOUND = 3

#: What helps against an error of the service, by its code. The message itself names the field and the way out.
_WAYS_OUT = {
    "WorkspaceNotFound": "trainshed workspace list",
    "ExperimentNotFound": "trainshed experiment list",
    "ClusterNotFound": "trainshed cluster list",
    "JobNotFound": "trainshed job list (an array, by its name: trainshed job list --array NAME)",
    "ParentResourceNotFound": "trainshed workspace list; trainshed experiment list",
    "AuthenticationFailed": "set TRAINSHED_TOKEN to the token in the service's admin.token, or unset TRAINSHED_URL",
    "SupportedVMSizes": "trainshed doctor",
}


class CommandError(ClientError):
    """A command cannot go on; with a stable code and the way out."""

    def __init__(self, code: str, message: str, way_out: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.way_out = way_out


def show(error: Exception) -> int:
    """Print the error on stderr; the exit code that goes with it. Raises what nobody foresaw."""
    if isinstance(error, OSError) and not isinstance(error, ClientError):
        where = f"{error.filename}: " if error.filename else ""
        return _say("OSError", f"{where}{error.strerror or error}", "")
    if not isinstance(error, ClientError):
        raise error
    code = _say(error.code, str(error), error.way_out or _WAYS_OUT.get(error.code, ""))
    if isinstance(error, ServiceError):
        for detail in error.details:
            place = f"{detail.target}: " if detail.target else ""
            if detail.message and detail.message != error.message:
                click.echo(f"  {detail.code}: {place}{detail.message}", err=True)
    return NOT_FOUND if isinstance(error, NotFoundError) else code


def _say(code: str, message: str, way_out: str) -> int:
    click.echo(f"{click.style('error', fg='red')}: {code}: {message}", err=True)
    if way_out:
        click.echo(f"try: {way_out}", err=True)
    return 1
