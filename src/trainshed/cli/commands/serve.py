"""``trainshed serve``: the service, in this process."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from trainshed.resources.users import DEFAULT_RANGE, RANGE_VARIABLE, UserRange

_FILE = click.Path(dir_okay=False, path_type=Path)


def _range(_context: click.Context, _option: click.Parameter, text: str) -> str:
    try:
        return str(UserRange.parse(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="TRAINSHED_HOME",
    help="Where everything is kept.  [default: ~/.trainshed]",
)
@click.option("--database-url", envvar="TRAINSHED_DATABASE_URL", metavar="URL", help="PostgreSQL instead of SQLite.")
@click.option(
    "--oidc-issuer",
    envvar="TRAINSHED_OIDC_ISSUER",
    metavar="URL",
    help="Accept tokens of this OpenID provider. Several: see oidc.json in the documentation.",
)
@click.option(
    "--oidc-audience",
    envvar="TRAINSHED_OIDC_AUDIENCE",
    metavar="TEXT",
    multiple=True,
    help="What its tokens' aud must hold.",
)
@click.option(
    "--isolate-jobs",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Run each workspace's jobs as a user of its own. auto: when others than you may submit jobs.",
)
@click.option(
    "--job-users",
    envvar=RANGE_VARIABLE,
    default=DEFAULT_RANGE,
    show_default=True,
    metavar="FIRST-LAST",
    callback=_range,
    help="User ids for that, two for each workspace, which nobody else on this machine has.",
)
@click.option(
    "--node-retry-seconds",
    envvar="TRAINSHED_NODE_RETRY_SECONDS",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="First pause before nodes that failed are replaced or asked for again; it doubles with each failure.",
)
@click.option("--stop-nodes", is_flag=True, help="When the service ends, end its nodes and jobs too.")
@click.option("--tls-cert", type=_FILE, help="Certificate (PEM, with those that lead to its issuer): speak HTTPS.")
@click.option("--tls-key", type=_FILE, help="Its key (PEM). SIGHUP reads both again.")
@click.option("--tls-key-password-file", type=_FILE, help="The key's password, if it has one.")
@click.option(
    "--insecure-listen", is_flag=True, help="Listen without TLS also where other machines can reach the address."
)
def serve(
    host: str,
    port: int,
    home: Path | None,
    database_url: str | None,
    oidc_issuer: str | None,
    oidc_audience: tuple[str, ...],
    isolate_jobs: str,
    job_users: str,
    node_retry_seconds: float,
    stop_nodes: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_key_password_file: Path | None,
    insecure_listen: bool,
) -> int:
    """Start the service. Ctrl-C stops it; nodes and jobs go on until it is back, unless --stop-nodes."""
    from trainshed.client.connection import home_directory

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    server = import_module("trainshed.server")
    options = server.ServeOptions(
        home=(home or home_directory()).expanduser(),
        host=host,
        port=port,
        database_url=database_url,
        stop_nodes=stop_nodes,
        oidc_issuer=oidc_issuer,
        oidc_audiences=oidc_audience,
        tls_files=server.TlsFiles(tls_cert, tls_key, tls_key_password_file) if tls_cert else None,
        insecure_listen=insecure_listen,
        isolate_jobs=isolate_jobs,
        job_users=job_users,
        node_retry_seconds=node_retry_seconds,
    )
    return int(server.serve(options))
