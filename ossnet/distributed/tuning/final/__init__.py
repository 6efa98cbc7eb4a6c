"""What follows a search: its best network is trained on, and an ensemble is chosen."""
