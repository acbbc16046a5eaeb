"""The loops that bring the world to what is described."""
