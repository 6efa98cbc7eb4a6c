"""One optimizer step and one decoded point of every network, side by side."""
