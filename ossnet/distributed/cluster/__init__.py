"""The Ray cluster: connection, resources, shared GPUs, memory kills, placement groups."""
