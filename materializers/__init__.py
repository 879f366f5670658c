"""How ZenML keeps and shows what steps hand on: references with digests, never arrays."""
