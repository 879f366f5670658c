"""The gallery: one HTML page of a run's videos and scores."""
