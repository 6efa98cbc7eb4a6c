"""Output: atomic writes, tables, figures, pages, progress, logging."""
