"""azure-mgmt-batchai 7.0.0, the Python client of today's generation: every operation, unpatched."""

from __future__ import annotations

from tests.e2e.clients.contract import ClientContract


class TestSdk700(ClientContract):
    client = "sdk-7.0.0"
    script = "sdk_7_0_0.py"
    # This release has neither GET nor DELETE of file servers.
    without = frozenset(
        {
            "file server got",
            "file server deleted",
            "file server in use deleted",
            "file server after its deletion",
            "absent file server",
            "absent file server deleted",
        }
    )
