"""Where gangs run: the protocol that every engine speaks, and one folder for each engine."""
