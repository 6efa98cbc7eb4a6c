"""What only a GPU can show: equal results, measured memory, step times; see docs/gpu.md."""
