"""What a study is made good from: the copy of its file, MLflow's runs, and MLflow's copies of checkpoints."""
