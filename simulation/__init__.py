"""The small world and simulated brains that see it, written in BOLD Moments' layout."""
