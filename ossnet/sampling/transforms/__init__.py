"""Augmentation of a case: affine, intensity, and the planes it reads."""
