"""A study on more GPUs than there are: discrete events, fed with measured trials."""
