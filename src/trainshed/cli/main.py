"""The entry of ``trainshed``: the table of commands, and what an error looks like and exits with.

Exit codes: 0 success, 1 error, 2 wrong usage, 3 not found, 130 interrupted; ``run`` and ``job wait`` exit as the job
did.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from trainshed import __version__
from trainshed.cli.lazy import LazyGroup

_COMMANDS = {
    "run": ("run", "run", "Run a command on a cluster with this folder's code, and stay with it."),
    "queue": ("queue", "queue", "What waits for nodes, in which order, and why."),
    "job": ("job", "job", "Submit jobs, watch them, read their logs and files."),
    "cluster": ("cluster", "cluster", "Make clusters, resize them, look at their nodes."),
    "experiment": ("experiment", "experiment", "Group jobs in experiments."),
    "file-server": ("file_server", "file_server", "Make and look at file servers for shared data."),
    "workspace": ("workspace", "workspace", "Group clusters and experiments in workspaces."),
    "group": ("group", "group", "Resource groups: the folders of workspaces and storage accounts."),
    "storage": ("storage", "storage", "Storage accounts on this service, and their keys."),
    "usage": ("usage", "usage", "Clusters and cores in use, and how many may be."),
    "user": ("user", "user", "People and programs that may call the service."),
    "token": ("token", "token", "Make and revoke access tokens."),
    "role": ("role", "role", "Say who may do what, where."),
    "audit": ("audit", "audit", "See who changed what."),
    "whoami": ("user", "whoami", "Who you are to the service."),
    "serve": ("serve", "serve", "Start the service on this machine."),
    "simulate": ("simulate", "simulate", "What if? Play a trace of jobs on other nodes, or under another policy."),
    "engine": ("engine", "engine", "Engines beside this machine: Slurm, Ray; add and remove them."),
    "status": ("status", "status", "The service, its clusters and its queue at a glance."),
    "doctor": ("doctor", "doctor", "Check this machine and the service; say what mends each fault."),
    "vault": ("vault", "vault", "The key that seals stored secrets: look at it, rotate it."),
    "keyvault": ("keyvault", "keyvault", "Secrets that jobs and clusters name by reference."),
    "completion": ("completion", "completion", "Print shell completion for bash, zsh or fish."),
    "version": ("version", "version", "Print the version."),
}

_EPILOG = """\b
Start here:
  trainshed serve                      start the service (in another terminal)
  trainshed run -- python train.py     run this folder's train.py on it

The service is found through TRAINSHED_URL and TRAINSHED_TOKEN, else through $TRAINSHED_HOME/service.json."""


@click.group(
    cls=LazyGroup,
    table=_COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--ca-file",
    type=click.Path(dir_okay=False),
    envvar="TRAINSHED_CA_FILE",
    help="Certificate (PEM) that vouches for the service's, where the system's do not.",
)
@click.version_option(__version__, message="trainshed %(version)s")
def cli(ca_file: str | None) -> None:
    """Train, test and batch-score models on clusters: describe the compute, the jobs and where the data lies."""
    if ca_file:
        # Where every part of the client looks.
        os.environ["TRAINSHED_CA_FILE"] = ca_file


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        result = cli.main(
            args=list(arguments) if arguments is not None else None, prog_name="trainshed", standalone_mode=False
        )
        sys.stdout.flush()
    except click.exceptions.Exit as wanted:
        return wanted.exit_code
    except click.Abort:
        click.echo("\ninterrupted", err=True)
        return 130
    except KeyboardInterrupt:
        click.echo("\ninterrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing more to say, also not when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from trainshed.cli.errors import show

        return show(error)
    return result if isinstance(result, int) else 0
