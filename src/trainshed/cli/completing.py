"""Names of live objects for shell completion. A service that does not answer completes to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trainshed.client.client import Client


def workspaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of workspaces."""
    return _names(ctx, incomplete, lambda client: (found.name for found in client.workspaces.list()))


def clusters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the workspace's clusters."""
    return _names(ctx, incomplete, lambda client: (found.name for found in client.clusters.list()))


def file_servers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the workspace's file servers."""
    return _names(ctx, incomplete, lambda client: (found.name for found in client.file_servers.list()))


def resource_groups(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the subscription's resource groups."""
    return _names(ctx, incomplete, lambda client: (found.name for found in client.groups.list()))


def storage_accounts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the subscription's storage accounts."""
    return _names(
        ctx, incomplete, lambda client: (found.name for found in client.storage_accounts.list(everywhere=True))
    )


def experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the workspace's experiments."""
    return _names(ctx, incomplete, lambda client: (found.name for found in client.experiments.list()))


def jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the experiment's jobs."""
    return _names(ctx, incomplete, lambda client: (found.name for found in client.jobs.list()))


def _names(ctx: click.Context, incomplete: str, ask: Callable[[Client], Iterable[str]]) -> list[str]:
    from trainshed.cli.options import make_session
    from trainshed.client.client import Client
    from trainshed.client.errors import ClientError

    given = ctx.params
    scope = make_session(
        given.get("subscription"), given.get("resource_group"), given.get("workspace"), given.get("experiment")
    ).scope
    with suppress(ClientError):
        with Client(scope) as client:
            return [name for name in ask(client) if name.startswith(incomplete)]
    return []
