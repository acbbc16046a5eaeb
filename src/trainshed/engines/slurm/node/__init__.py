"""What runs on the nodes of a Slurm job: started by its script, it starts the runner. Standard library and runner."""
