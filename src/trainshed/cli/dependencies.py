"""``--after``, ``--after-ok`` and ``--after-any``: the jobs that a new one waits for."""

from __future__ import annotations

from collections.abc import Sequence

from trainshed.cli.session import Session
from trainshed.resources.conditions import Condition


def depends_on(
    session: Session, after: Sequence[str], after_ok: Sequence[str], after_any: Sequence[str]
) -> list[dict[str, str]]:
    """dependsOn of the options; ``last`` is the job submitted last. Raises CommandError when there is none."""
    given = ((Condition.AFTER, after), (Condition.AFTER_OK, after_ok), (Condition.AFTER_ANY, after_any))
    return [
        {"job": session.job_name(name), "condition": condition.value} for condition, named in given for name in named
    ]
