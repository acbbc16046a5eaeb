"""Ray as an engine: its nodes are held one by one, and gangs run on those that are held."""
