"""``trainshed job logs``: a job's log or its ranks', from the beginning or the last lines, as it stands or live."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable

import click

from trainshed.cli import options
from trainshed.cli.session import Session


@click.command("logs")
@options.name("job")
@click.option("-f", "--follow", is_flag=True, help="Stay until the job has ended.")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Only the last lines, and what follows.")
@click.option("--stderr", is_flag=True, help="Standard error instead of standard output.")
@click.option("--file", metavar="FILE", help="Another file of stdouterr, for example execution.log.")
@click.option("--rank", "ranks", type=click.IntRange(0), multiple=True, help="This rank's log. Can be repeated.")
@click.option("--all", "every", is_flag=True, help="All ranks' logs as one, each line with its rank.")
@click.option("--node", metavar="NAME", help="The logs of the ranks on this node (its name or id).")
@click.option("--since", metavar="TIME", help="Only lines from then on: 10m (ago) or 2026-11-21T09:30:00Z.")
@click.option("--grep", metavar="REGEX", help="Only lines in which the regular expression is found.")
@options.session(experiment=True)
def logs(
    session: Session,
    name: str,
    follow: bool,
    tail: int | None,
    stderr: bool,
    file: str | None,
    ranks: tuple[int, ...],
    every: bool,
    node: str | None,
    since: str | None,
    grep: str | None,
) -> None:
    """Print a job's log: stdout.txt, or stdout-0.txt where each process has its own; or its ranks' logs as one."""
    from trainshed.cli.logfiles import first_log, log_name
    from trainshed.client.errors import NotFoundError

    if file is not None and (ranks or every or node or stderr):
        raise click.UsageError("--file names one file; leave out --rank, --all, --node and --stderr")
    if ranks or every or node or since or grep:
        from trainshed.cli.ranklogs import Filter, show

        chosen = Filter.of(ranks=ranks, every=every, node=node, since=since, grep=grep, file=file, stderr=stderr)
        show(session, session.job_name(name), chosen, follow=follow, tail=tail)
        return
    name = session.job_name(name)
    job = session.client.jobs.get(name)
    wanted = file or log_name(job, stderr=stderr)
    if file is None and (job.final or not follow):
        files = list(session.client.jobs.output_files(name))
        if wanted not in {found.name for found in files}:
            other = first_log(files, stderr=stderr)
            if other is None:
                session.note(
                    f"job {name} is {job.execution_state.value} and has no log yet: trainshed job explain {name}"
                )
                return
            session.note(f"there is no {wanted}; this is {other}")
            wanted = other
    offset = _start_of_tail(session, name, wanted, tail) if tail is not None else 0
    try:
        _copy(session.client.jobs.stream_log(name, wanted, offset=offset, follow=follow))
    except NotFoundError as error:
        error.way_out = f"trainshed job files list {name}"
        raise


def _copy(pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _start_of_tail(session: Session, name: str, file: str, lines: int) -> int:
    """The byte at which the last lines begin."""
    from trainshed.client.errors import NotFoundError

    total = 0
    starts: deque[int] = deque([0], maxlen=lines + 1)
    try:
        for piece in session.client.jobs.stream_log(name, file, follow=False):
            at = piece.find(b"\n")
            while at != -1:
                starts.append(total + at + 1)
                at = piece.find(b"\n", at + 1)
            total += len(piece)
    except NotFoundError:
        # Not written yet: everything is still to come.
        return 0
    # A last line without its end counts as a line.
    if starts[-1] == total:
        return starts[0] if lines else total
    return total if not lines else starts[-min(lines, len(starts))]
