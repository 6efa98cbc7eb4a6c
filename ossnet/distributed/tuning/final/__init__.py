"""What follows a search: its best configuration is trained once more, its best checkpoints are chosen from."""
