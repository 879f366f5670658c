"""How ZenML keeps and shows the outputs of steps: references with digests, never arrays."""
