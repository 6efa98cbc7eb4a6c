"""Object storage: URLs, a folder there with its copy on this machine, and its lock."""
