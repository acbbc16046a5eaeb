"""Traces for ``trainshed simulate``: from files, from the service; plots to files."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from trainshed.cli.errors import CommandError
from trainshed.cli.session import Session
from trainshed.simulation.history import from_history
from trainshed.simulation.reading import TraceFormat, read_trace
from trainshed.simulation.swf import write_swf
from trainshed.simulation.table import write_table
from trainshed.simulation.trace import Trace, TraceError

if TYPE_CHECKING:
    from trainshed.client.models import Job


def load(path: str, form: str | None, per_node: int | None) -> Trace:
    """Read a trace from a file, from a ``.gz`` file, or with ``-`` from standard input. Raises CommandError."""
    try:
        with _open(path) as lines:
            return read_trace(lines, TraceFormat(form) if form else None, per_node=per_node)
    except TraceError as error:
        raise CommandError("TraceInvalid", f"{path}: {error}", error.way_out) from None
    except UnicodeDecodeError as error:
        raise CommandError("TraceInvalid", f"{path}: it is not text ({error.reason} at byte {error.start})") from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise CommandError("TraceInvalid", f"{path}: it is not a whole gzip file ({error})") from None


@contextmanager
def _open(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdin
    elif path.endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8-sig") as lines:
            yield lines
    else:
        with Path(path).open(encoding="utf-8-sig", newline="") as lines:
            yield lines


def from_service(session: Session, cluster: str | None) -> Trace:
    """The jobs of the session's workspace that have ended."""
    from trainshed.client.models import segment_after

    def wanted(job: Job) -> bool:
        return cluster is None or segment_after(job.cluster_id, "clusters").lower() == cluster.lower()

    client = session.client
    names = [experiment.name for experiment in client.experiments.list()]
    found = (job for name in names for job in client.at(experiment=name).jobs.list() if wanted(job))
    return from_history(job.json for job in found)


def written(trace: Trace, path: str, note: str) -> Iterator[str]:
    """The lines of a trace, in the format that the file's name asks for: ``.swf``, else CSV."""
    return write_swf(trace, note=note) if path.endswith(".swf") else write_table(trace)


def save(path: str, lines: Iterator[str]) -> None:
    """Write lines to a file, or with ``-`` to standard output."""
    if path == "-":
        for line in lines:
            print(line)
        return
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def plotter(path: str) -> Callable[[str], None]:
    """What writes a page of SVG to this file, as PNG if its name says so. Raises CommandError if that cannot be."""
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".svg", ".png"):
        raise CommandError("PlotInvalid", f"{path}: plots are written as .svg or .png", "--plot waits.svg")
    if not target.parent.is_dir():
        raise CommandError("PlotInvalid", f"{path}: the folder {target.parent} does not exist")
    convert = _png if suffix == ".png" else str.encode
    if suffix == ".png":
        _png(_EMPTY)

    def draw(page: str) -> None:
        target.write_bytes(convert(page))

    return draw


_EMPTY = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


def _png(page: str) -> bytes:
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        way_out = "pip install 'trainshed[plots]', or a name that ends in .svg"
        raise CommandError("PlotInvalid", "PNG needs a package that is not installed", way_out) from None
    return bytes(svg_to_bytes(svg_string=page))
