"""Our search beside the usual recipe, under one budget."""
