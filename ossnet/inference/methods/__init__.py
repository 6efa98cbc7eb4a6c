"""Ways to decide which voxels of a volume to query."""
