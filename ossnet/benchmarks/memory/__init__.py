"""Predicted beside measured peak memory, over random configurations."""
