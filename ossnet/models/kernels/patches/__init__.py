"""Arithmetic of the patch encoder: its convolutions over whole patches."""
