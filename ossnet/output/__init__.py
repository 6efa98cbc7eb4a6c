"""What is written and printed: atomic writes, tables, the console."""
