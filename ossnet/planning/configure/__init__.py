"""Resolving a configuration: what a recipe chooses for a data set, and what fits a memory budget."""
