"""Ways to make training batches from prepared volumes, side by side."""
