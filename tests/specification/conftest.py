"""A service with its real controller, and failed checks of the shared modules that show their values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.specification.rules", "tests.specification.walk", "tests.specification.wire")

from tests.api.conftest import migrated, service, shed  # noqa: E402, F401
from tests.api.service import Service  # noqa: E402
from tests.specification.world import World  # noqa: E402


@pytest.fixture
def world(service: Service) -> Iterator[World]:  # noqa: F811
    """The whole service in this process, empty."""
    made = World(service)
    yield made
    made.close()
