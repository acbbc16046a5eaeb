"""Storage servers that tests start, as far as they come from language registries."""
