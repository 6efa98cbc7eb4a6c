"""Asking an occupancy network for the classes of voxels."""
