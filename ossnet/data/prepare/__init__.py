"""From a source of scans to a store: configuration, survey of the cases, and the build."""
