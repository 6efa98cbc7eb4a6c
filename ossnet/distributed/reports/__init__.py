"""From the runs of an experiment to a page of tables and figures."""
