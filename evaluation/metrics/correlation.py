"""Pearson correlation of a prediction with its own stimulus."""

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, PerStimulus
from evaluation.metrics.similarity import register_of_similarity


@register_of_similarity("correlation", label="correlation", chance=0.0, span=(-1.0, 1.0))
def correlation(r: NDArray[np.float64], groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Correlate each flattened prediction with its flattened truth (Pearson's r, 1895), −1 to 1.

    A constant row, predicted or true, has no correlation; it is given 0, so that predicting nothing earns chance.
    Two-way identification is the fairer figure: clips resemble each other, so a mean predictor correlates above 0.
    """
    return np.asarray(np.clip(np.diag(r), -1.0, 1.0))
