"""Early stopping: which trials continue."""
