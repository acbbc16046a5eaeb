"""A Slurm site by slurmrestd, with JWT: the version that both know is negotiated, its shapes are read tolerantly."""
