"""Whether a score can be believed: effective dimension, distance to training, leaks."""
