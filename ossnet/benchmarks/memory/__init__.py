"""Comparison of predicted and measured peak memory, over random configurations."""
