"""The original's own clients, unpatched, each in an environment of its own: they conflict with one another."""
