"""One training loop for every network of the project, with its checkpoints, optimisers and workers."""
