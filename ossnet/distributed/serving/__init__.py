"""A server of one network on this machine: a scan in by HTTP, labels, volumes or a mesh out."""
