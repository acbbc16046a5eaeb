"""Queries that run with every decision are answered from an index, however many jobs are stored (SQLite's plans)."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Executable
from sqlalchemy.dialects import sqlite

from trainshed.store import attempts, dependencies, events, job_arrays, job_lookup, jobs, nodes, operations, queue
from trainshed.store.database import Database

_CASES = {
    "queue head": (queue._head, "ix_jobs_queue"),
    "queue page": (queue._page, "ix_jobs_queue"),
    # Either of the queue's indexes tells.
    "jobs ahead": (queue._ahead, "ix_jobs_"),
    "clusters with a queue": (queue._clusters, "ix_jobs_queue"),
    "jobs ahead, for later": (queue._ahead_later, "ix_jobs_delayed"),
    "next retry": (queue._next_due, "ix_jobs_delayed"),
    "blocked": (queue._blocked, "ix_jobs_blocked"),
    "who waits for a job": (dependencies._remove_met, "ix_dependencies_on"),
    "what a job waits for": (dependencies._remove, "sqlite_autoindex_dependencies"),
    "whose turn is taken": (job_arrays._taken, "ix_jobs_array"),
    "whose turn is next": (job_arrays._next, "ix_jobs_array"),
    "arrays with a line": (job_arrays._with_line, "ix_jobs_turn"),
    "ending": (jobs._ending, "ix_jobs_ending"),
    "jobs of a cluster": (jobs._of_cluster, "ix_jobs_cluster"),
    "page of jobs": (jobs._page, "ix_jobs_experiment"),
    "counts": (jobs._counts, "ix_jobs_cluster"),
    "job by key": (job_lookup._get, "sqlite_autoindex_jobs"),
    "job by uid": (job_lookup._get_by_uid, "sqlite_autoindex_jobs"),
    "live attempts": (attempts._live, "live"),
    "live attempt of a job": (attempts._live_of_job, "uq_attempts_live_job"),
    "live attempts of a cluster": (attempts._live_of_cluster, "ix_attempts_live_cluster"),
    "operations in progress": (operations._in_progress, "ix_operations_in_progress"),
    "operations to end": (operations._finish_for, "ix_operations_in_progress"),
    "nodes of a cluster": (nodes._of_cluster, "ix_nodes_present"),
    "events": (events._page, "ix_events_resource"),
}
#: Reads the index from end to end, which is what the question takes.
_WHOLE_INDEX = {"arrays with a line", "ending", "live attempts", "operations in progress", "counts"}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", _CASES)
def test_answered_from_its_index(db: Database, name: str) -> None:
    statement: Executable
    statement, index = _CASES[name]
    # Parameters take any value: only the plan is asked for.
    compiled = statement.compile(dialect=sqlite.dialect())
    sql = str(compiled).replace("(__[POSTCOMPILE_states])", "('queued')")
    sql = re.sub(r"NOT IN \(__\[POSTCOMPILE_execution_\d\]\)", "NOT IN ('failed')", sql)
    sql = sql.replace("(__[POSTCOMPILE_conditions])", "('after')")
    values = ("x",) * sql.count("?")
    plan = [row[3] for row in db.read_sync(lambda tx: tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all())]
    steps = [step for step in plan if step.startswith(("SEARCH", "SCAN")) and "holdings" not in step]
    steps = [step for step in steps if not step.startswith(("SCAN waiting", "SCAN CONSTANT ROW"))]
    assert steps
    for step in steps:
        assert index in step
        assert step.startswith("SEARCH") or name in _WHOLE_INDEX
