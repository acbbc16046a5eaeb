"""@azure/arm-batchai 2.2.1, the client for Node.js: every operation, the ``begin...`` and ``...Next`` ones too."""

from __future__ import annotations

from tests.e2e.clients.contract import ClientContract


class TestNodeSdk(ClientContract):
    client = "node-2.2.1"
    script = "node_sdk.js"
    # The client itself refuses names of other than ASCII letters.
    without = frozenset({"workspace badly named"})
