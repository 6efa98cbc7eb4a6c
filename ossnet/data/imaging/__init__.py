"""From a NIfTI file to the array of a network, and back: reading, geometry, resampling, normalization."""
