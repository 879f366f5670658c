"""Pearson correlation of a prediction with its own stimulus."""

import numpy as np

from evaluation.metrics.registry import Array, PerStimulus, register
from evaluation.metrics.rows import unit_rows


@register("correlation", label="correlation", chance=0.0)
def correlation(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Correlate each flattened prediction with its flattened truth (Pearson's r), −1 to 1.

    A constant row, predicted or true, has no correlation; it is given 0, so that predicting nothing earns chance.
    Two-way identification is the fairer figure: clips resemble each other, so a mean predictor correlates above 0.
    """
    r = np.einsum("nf,nf->n", unit_rows(prediction), unit_rows(truth))
    return np.asarray(np.clip(r, -1.0, 1.0))
