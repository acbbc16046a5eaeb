"""azure-mgmt-batchai 2.0.0, the Python client of the original's last years: every operation, unpatched."""

from __future__ import annotations

from tests.e2e.clients.contract import ClientContract


class TestSdk200(ClientContract):
    client = "sdk-2.0.0"
    script = "sdk_2_0_0.py"
