"""Chaos on the real local engine: whatever is killed, jobs end as they should and nothing is left."""
