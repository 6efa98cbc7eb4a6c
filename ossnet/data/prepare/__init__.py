"""Preparation of a store from a source of scans: configuration, survey of the cases, and the build."""
