"""Bootstrap intervals over stimuli."""

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for

DRAWS = 2000


def bootstrap_interval(
    values: NDArray[np.float64], *, seed: int, draws: int = DRAWS, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of per-stimulus values.

    Stimuli are drawn with replacement; the stimuli that an identification compares against stay as they were. The draws
    depend on the seed and on n alone, so two rows over the same stimuli are resampled alike.

    Parameters
    ----------
    values : array, shape (n,)
    seed : int
        The study's seed.
    draws : int
    level : float
        The share of the resampled means that the interval holds.

    Returns
    -------
    (low, high)
        Both NaN where a value is NaN or where there are fewer than two values.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return float("nan"), float("nan")
    drawn = rng_for(seed, "bootstrap").integers(0, len(values), size=(draws, len(values)))
    means = values[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
