"""The real control loops and the real store against a simulated engine, clock and faults, all from one seed."""
