"""The commands, a module a noun or verb; loaded by name when they are called (``trainshed.cli.lazy``)."""
