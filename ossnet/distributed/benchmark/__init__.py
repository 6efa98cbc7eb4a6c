"""Our search and others of the field, compared at equal CPU time under one memory budget."""
