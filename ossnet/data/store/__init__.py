"""The store of prepared volumes: one Arrow file a case and a manifest."""
