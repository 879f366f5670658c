"""Controls beside every model: the mean predictor and the shuffled brain; for the noise ceiling see `ceilings`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for


def shuffle_stimuli(n: int, seed: int) -> NDArray[np.int64]:
    """Return a random order of n stimuli, uniform over all orders.

    The shuffled-brain control is the same model on ``responses[order]``: its score does not depend on the brain.
    Orders that leave a stimulus in place are not excluded: without them, a model that knows its stimuli is identified
    only (n - 2) / (2 (n - 1)) of the time, below chance, and every comparison would look better than it is.

    Raises
    ------
    ValueError
        There are fewer than two stimuli, so there is nothing to shuffle.
    """
    if n < 2:
        raise ValueError(f"{n} stimuli cannot be shuffled; the shuffled-brain control needs 2 or more")
    return rng_for(seed, "shuffle_stimuli").permutation(n)


def mean_prediction(training: NDArray[Any], n: int) -> NDArray[Any]:
    """Predict the mean of the training targets (m, ...) for each of n stimuli, (n, ...) of their dtype.

    A read-only view of one row; integers are rounded.

    Raises
    ------
    ValueError
        There is no training row.
    """
    if len(training) == 0:
        raise ValueError("no training targets; the mean predictor needs 1 or more")
    mean = training.mean(axis=0, dtype=np.float64)
    if np.issubdtype(training.dtype, np.integer):
        mean = np.rint(mean)
    return np.broadcast_to(mean.astype(training.dtype), (n, *training.shape[1:]))
