"""Reading, geometry, resampling and normalization: a NIfTI file to the array of a network, and back."""
