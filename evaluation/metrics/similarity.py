"""How much closer a prediction is to its own stimulus than to every other: what all identification rests on."""

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array
from evaluation.metrics.rows import unit_rows

TIE = 1e-9
"""Correlations closer than this are equal: a blocked matrix product may round equal columns differently."""


def leads(prediction: Array, truth: Array) -> NDArray[np.float64]:
    """Return by how much each prediction's own stimulus leads over every stimulus, in Pearson's r.

    Parameters
    ----------
    prediction, truth : arrays of one shape, (n, ...)

    Returns
    -------
    array, shape (n, n)
        Entry (i, j) is ``corr(prediction i, truth i) - corr(prediction i, truth j)``, zero on the diagonal; the row of
        a prediction that is not finite is NaN. Leads within `TIE` of zero are ties.
    """
    similarity = unit_rows(prediction) @ unit_rows(truth).T
    return np.asarray(np.diag(similarity)[:, None] - similarity)
