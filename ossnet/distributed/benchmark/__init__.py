"""Our search and the usual recipe of Ray Tune with Optuna, compared under one memory budget."""
