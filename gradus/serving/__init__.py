"""Models in MLflow's registry: how they get there, and what `mlflow models serve` runs for them."""
