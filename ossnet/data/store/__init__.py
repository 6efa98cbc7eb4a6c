"""The store of prepared volumes: one Arrow file a case beside a manifest."""
