"""Volumes prepared, sharded and predicted through Ray."""
