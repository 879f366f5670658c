"""The model registry: MLflow, and nothing outside this folder knows it."""
