"""What follows a search: its best configuration is trained once more, and an ensemble is chosen."""
