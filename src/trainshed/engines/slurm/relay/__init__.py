"""Where nodes share no file system with the service: they call it, and it keeps for them what a shared one would."""
