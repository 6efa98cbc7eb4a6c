"""Comparison of one optimizer step and one decoded point of every network."""
