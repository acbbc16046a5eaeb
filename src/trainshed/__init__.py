"""Trainshed: the open, self-hosted successor of Azure Batch AI."""

__version__ = "0.1.0"
