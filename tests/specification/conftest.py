"""Failed checks of the shared modules show their values, as those of tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.specification.rules", "tests.specification.walk", "tests.specification.wire")
