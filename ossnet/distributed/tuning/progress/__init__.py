"""What a search shows while it runs: a table on a terminal, lines in a log."""
