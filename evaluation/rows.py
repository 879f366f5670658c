"""The rows of a report, in the order in which they are shown, and what each of them is."""

RECONSTRUCTION = "reconstruction"
NEAREST, PRIOR = "nearest_training_clip", "prior"
MEAN, SHUFFLED = "mean_predictor", "shuffled_brain"
NOISE_CEILING, ORACLE = "noise_ceiling", "oracle"

ROWS = (RECONSTRUCTION, NEAREST, PRIOR, MEAN, SHUFFLED, NOISE_CEILING, ORACLE)
"""The rows of a reconstruction's report; one that cannot be had is left out, and a note says why."""
REFERENCES = ROWS[1:]
"""The rows that are no model's: what a model is held against."""
CONTROLS = (SHUFFLED, MEAN, PRIOR, NEAREST)
"""The rows that a reconstruction has to beat, the one that matters most first."""
