"""The official clients against a live service."""
