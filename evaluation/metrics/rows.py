"""Rows made ready for a metric: unit vectors, of which products are correlations."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit_rows(array: NDArray[Any]) -> NDArray[np.float64]:
    """Flatten each stimulus, subtract its mean and divide by its length, so that products are Pearson correlations.

    Parameters
    ----------
    array : shape (n, ...)

    Returns
    -------
    array, shape (n, features), float64
        A constant row becomes zeros: it correlates 0 with everything. A row that is not finite becomes NaN.
    """
    rows = np.array(array.reshape(len(array), -1), dtype=np.float64)
    finite = np.isfinite(rows).all(axis=1)
    rows[~finite] = 0.0
    # Asked of the values themselves: a constant minus its rounded mean may leave a residue that looks like a pattern.
    constant = rows.max(axis=1) == rows.min(axis=1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows[constant] = 0.0
    rows /= or_one(np.abs(rows).max(axis=1))[:, None]  # so that squaring tiny values does not underflow
    rows /= or_one(np.sqrt(np.einsum("nf,nf->n", rows, rows)))[:, None]
    rows[~finite] = np.nan
    return rows


def or_one(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths to divide by: 1 in place of 0."""
    return np.where(lengths == 0.0, 1.0, lengths)
