"""Rows made ready for a metric: unit vectors for correlations, clips from 0 to 1 for what looks at frames."""

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
    rows /= _or_one(np.abs(rows).max(axis=1))[:, None]  # so that squaring tiny values does not underflow
    rows /= _or_one(np.sqrt(np.einsum("nf,nf->n", rows, rows)))[:, None]
    rows[~finite] = np.nan
    return rows


def _or_one(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(lengths == 0.0, 1.0, lengths)


def unit_clip(clip: NDArray[Any]) -> NDArray[np.float64]:
    """Return one clip as floats from 0 to 1; uint8 is divided by 255.

    Raises
    ------
    ValueError
        A float clip leaves the range from 0 to 1 (NaN may stand in it).
    """
    if clip.dtype == np.uint8:
        return np.asarray(clip / 255.0)
    scaled = clip.astype(np.float64)
    if (scaled < 0.0).any() or (scaled > 1.0).any():
        raise ValueError(
            f"clip of {clip.dtype} reaches from {np.nanmin(scaled):g} to {np.nanmax(scaled):g}; "
            "expected uint8, or floats from 0 to 1"
        )
    return scaled
