"""The upper floor: the only place that imports Ray, Optuna or MLflow."""
