"""The embedded engine: nodes on this machine, kept by a daemon that outlives the service."""
