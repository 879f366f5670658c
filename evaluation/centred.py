"""Spaces less their training mean: what a prediction says about a stimulus beyond what all stimuli share.

`latents_centred` holds the arrays of `latents` minus the mean of the training targets, truth and predictions alike.
Stimuli resemble each other, so that in `latents` the mean predictor itself correlates far above 0; here it correlates
0, R² compares with it, and retrieval is among deviations from it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CENTRED = "_centred"


def centred(space: str) -> str:
    """Return the name of a space less its training mean: `latents_centred`."""
    return space if is_centred(space) else f"{space}{CENTRED}"


def is_centred(space: str) -> bool:
    """Say whether a space is one less its training mean."""
    return space.endswith(CENTRED)


def plain(space: str) -> str:
    """Return the name of the space itself: `latents` of `latents_centred`."""
    return space.removesuffix(CENTRED)


def centre(rows: NDArray[Any], mean: NDArray[Any]) -> NDArray[np.float32]:
    """Subtract the training mean from truth or predictions.

    Parameters
    ----------
    rows : array, shape (n, ...)
    mean : array, shape (...) or (n, ...)
        The training targets' mean, once or for every stimulus as `mean_prediction` returns it.

    Returns
    -------
    array, shape (n, ...), float32
        Zeros where a row is the mean in float32: the mean predictor is constant here, and earns chance.

    Raises
    ------
    ValueError
        The mean's shape is not that of a row.
    """
    if mean.shape not in (rows.shape, rows.shape[1:]):
        raise ValueError(f"rows {rows.shape} and training mean {mean.shape}; expected {rows.shape[1:]}")
    return np.asarray(rows.astype(np.float32) - mean.astype(np.float32))
