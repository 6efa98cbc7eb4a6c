"""What is written and printed: atomic writes, tables, figures, pages, progress, logging."""
