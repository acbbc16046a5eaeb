"""What this machine lets a test have."""

from __future__ import annotations

from functools import cache

import pytest

from trainshed.runner import isolation


@cache
def why_no_namespaces() -> str:
    """Why jobs cannot have namespaces of their own here, as in most containers; empty when they can."""
    return isolation.permitted("node-0")


#: Of tests in which jobs see their node's name, or file servers run.
needs_namespaces = pytest.mark.skipif(
    bool(why_no_namespaces()), reason=f"jobs cannot have namespaces here: {why_no_namespaces()}"
)
