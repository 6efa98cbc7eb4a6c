"""The arithmetic of the networks: fused, eager and compiled kernels with their gradients."""
