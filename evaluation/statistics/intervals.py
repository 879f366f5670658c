"""Bootstrap intervals over stimuli, and over subjects where there are several; paired permutation tests."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for

DRAWS = 2000
LEVEL = 0.95
"""The share of the resampled means that an interval holds."""
FLIPS = 10_000
EXACT = 13
"""Stimuli up to which all flips of signs are tried."""
TIE = 1e-12
"""Sums of flipped differences that are closer than this share of the largest possible one are equal."""


def bootstrap_interval(values: NDArray[np.float64], *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of per-stimulus values.

    Stimuli are drawn with replacement; the stimuli that an identification compares with stay the same. The draws
    depend on the seed and on n alone, so two rows over the same stimuli are resampled alike. Of several subjects who
    saw the same stimuli, subjects are drawn as well, crossed with the stimuli: a drawn subject brings the values of all
    drawn stimuli (the pigeonhole bootstrap of Owen 2007, *Annals of Applied Statistics* 1:386, which errs on the wide
    side). With two or three subjects no method generalises well to others.

    Parameters
    ----------
    values : array, shape (n,) or (subject, n)

    Returns
    -------
    (low, high)
        Both NaN where a value is NaN or where there are fewer than two stimuli.
    """
    rows = np.atleast_2d(values)
    subjects, n = rows.shape
    if n < 2 or not np.isfinite(rows).all():
        return float("nan"), float("nan")
    drawn = rng_for(seed, "bootstrap").integers(0, n, size=(draws, n))
    if subjects == 1:
        means = rows[0][drawn].mean(axis=1)
    else:
        drawn_subjects = rng_for(seed, "bootstrap", "subjects").integers(0, subjects, size=(draws, subjects))
        weights = _counts(drawn_subjects, subjects) @ rows
        means = np.einsum("dn,dn->d", weights, _counts(drawn, n)) / (subjects * n)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _counts(drawn: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Return how often each of `size` was drawn, (draw, size)."""
    flat = drawn + size * np.arange(len(drawn))[:, None]
    counted = np.bincount(flat.ravel(), minlength=len(drawn) * size)
    return counted.reshape(len(drawn), size).astype(np.float64)


def paired_interval(
    a: NDArray[np.float64], b: NDArray[np.float64], *, seed: int, draws: int = DRAWS
) -> tuple[float, float, float]:
    """Return by how much the mean of a exceeds that of b, with the bootstrap interval of this difference.

    Both are resampled by the same draws, so a stimulus that is hard for both does not widen the interval: two rows may
    differ clearly while their own intervals overlap.

    Parameters
    ----------
    a, b : values of the same stimuli in the same order, (n,) or (subject, n)

    Returns
    -------
    (difference, low, high)
        NaN where there is no value or one of them is NaN; with a single stimulus there is a difference and no interval.

    Raises
    ------
    ValueError
        The numbers of stimuli or subjects differ.
    """
    differences = _differences(a, b)
    mean = float(differences.mean()) if differences.size else float("nan")
    return (mean, *bootstrap_interval(differences, seed=seed, draws=draws))


def _differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    if a.shape != b.shape:
        raise ValueError(f"{a.shape[-1]} and {b.shape[-1]} values; a paired comparison needs the same stimuli in both")
    return a - b


def paired_p(
    a: NDArray[np.float64], b: NDArray[np.float64], *, seed: int, higher_is_better: bool = True, draws: int = FLIPS
) -> float:
    """Return how often chance alone would make a as much better than b as it is: a paired permutation test, one-sided.

    Under the null hypothesis it is random which of a stimulus's two values is a's, so every difference may
    have either sign (Fisher 1935, *The Design of Experiments*; Pitman 1937, *Supplement to the JRSS* 4:119). The test
    is exact where that holds. Against the mean of several shuffled orders it holds nearly: the differences then have
    mean zero and a distribution that need not be symmetric.

    Parameters
    ----------
    a, b : values of the same stimuli in the same order, (n,) or (subject, n); subjects are averaged first
    draws : flips of all signs that are tried; up to 13 stimuli, each of the 2ⁿ is tried once and nothing is drawn

    Returns
    -------
    float
        The share of flips whose sum is at least as large as the observed one, which counts as one of them, so it is
        never 0. Ties count against a. NaN where a value is NaN or there are fewer than two stimuli.

    Raises
    ------
    ValueError
        The numbers of stimuli or subjects differ.
    """
    differences = np.atleast_2d(_differences(a, b)).mean(axis=0) * (1.0 if higher_is_better else -1.0)
    n = len(differences)
    if n < 2 or not np.isfinite(differences).all():
        return float("nan")
    bound = differences.sum() - TIE * np.abs(differences).sum()
    if n <= EXACT:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(((1.0 - 2.0 * bits) @ differences >= bound).mean())
    signs = 1.0 - 2.0 * rng_for(seed, "flips").integers(0, 2, size=(draws, n))
    return float((1 + (signs @ differences >= bound).sum()) / (1 + draws))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p-values of several tests by Holm's method, which bounds the chance of any false positive among them.

    Holm (1979, *Scandinavian Journal of Statistics* 6:65): the k-th smallest of m is multiplied by m − k + 1, and none
    may come out below a smaller one. NaN stays NaN and is no test.
    """
    known = sorted((value, name) for name, value in p.items() if math.isfinite(value))
    adjusted, highest = dict.fromkeys(p, float("nan")), 0.0
    for place, (value, name) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - place) * value))
        adjusted[name] = highest
    return adjusted
