"""Reports of an experiment's runs: a page of tables and figures."""
