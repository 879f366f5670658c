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


def paired_interval(
    a: NDArray[np.float64], b: NDArray[np.float64], *, seed: int, draws: int = DRAWS, level: float = 0.95
) -> tuple[float, float, float]:
    """Return by how much the mean of a exceeds that of b, with the bootstrap interval of this difference.

    Both are resampled by the same draws, so what makes a stimulus hard for both does not widen the interval: two rows
    may differ clearly while their own intervals overlap.

    Parameters
    ----------
    a, b : arrays, shape (n,)
        Values of the same stimuli in the same order.
    seed, draws, level
        See `bootstrap_interval`.

    Returns
    -------
    (difference, low, high)
        NaN where there is no value or one of them is NaN; below two stimuli there is a difference and no interval.

    Raises
    ------
    ValueError
        The numbers of stimuli differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} values; a paired comparison needs the same stimuli in both")
    differences = a - b
    mean = float(differences.mean()) if len(differences) else float("nan")
    return (mean, *bootstrap_interval(differences, seed=seed, draws=draws, level=level))
