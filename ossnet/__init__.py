"""Networks, data and search for 3-D segmentation under a memory budget."""
