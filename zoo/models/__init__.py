"""The architectures and training stages of the small world's models."""
