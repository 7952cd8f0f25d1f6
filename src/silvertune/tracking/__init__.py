"""MLflow: the store, the runs, and models that it serves."""
