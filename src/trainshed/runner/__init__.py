"""What happens on a node: directories, preparation, processes, logs, exit."""
