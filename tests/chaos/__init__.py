"""Chaos on a real engine: whatever is killed, jobs end as they should and nothing is left."""
