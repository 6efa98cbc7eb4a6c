"""Ways to predict a whole volume, side by side."""
