"""MLflow: the client, the actor that logs for all processes, and the Model Registry."""
