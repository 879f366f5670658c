"""Intervals of means over stimuli and subjects, and paired permutation tests.

One scheme for every report: a jackknife over stimuli with Student's t, crossed with subjects where there are several,
by blocks of neighbours where stimuli are ordered in time. Nothing is drawn, so intervals take no seed.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t as student

from core.seeds import rng_for

Floats = NDArray[np.float64]
Blocks = NDArray[np.int64]
"""A label of each stimulus, (n,): stimuli of one label are left out, or have their signs flipped, together."""
Span = tuple[float, float]
ANY: Span = (-math.inf, math.inf)
SHARE: Span = (0.0, 1.0)
LEVEL = 0.95
"""How often an interval holds the mean over all subjects and stimuli of the kind."""
FLIPS = 10_000
EXACT = 13
"""Stimuli, or blocks of them, up to which all flips of signs are tried."""
TIE = 1e-12
"""Sums of flipped differences that are closer than this share of the largest possible one are equal."""
AT_END = 1e-12
"""Values closer than this to the end of their span are at it."""


def half_width(values: Floats, *, blocks: Blocks | None = None) -> float:
    """Return the half-width of the 95 % interval of the mean of values, by Student's t.

    Of one subject, t of n − 1 degrees of freedom times the values' standard deviation over √n: the jackknife's, where
    the values are its pseudo-values (Tukey 1958, *Annals of Mathematical Statistics* 29:614; Efron 1982, *The
    Jackknife, the Bootstrap and Other Resampling Plans*; `Metric.influences`). Blocks are counted in place of stimuli
    where there are any, which holds for few blocks too (Ibragimov and Müller 2010, *Journal of Business and Economic
    Statistics* 28:453).

    Of several subjects who saw the same stimuli, both are random, and crossed. In a two-way table without replication
    with mean squares MS, the variance of the mean is that of the stimuli, MS_stimulus / (S n), and that of the
    subjects beyond it, (MS_subject − MS_rest) / (S n), or 0. Each has its own t, and the squared half-widths add up
    (Howe 1974, *Journal of the American Statistical Association* 69:789; Zou and Donner 2008, *Statistics in Medicine*
    27:1693): with few subjects who differ the interval is wide, and with subjects alike it is that of the stimuli.

    Parameters
    ----------
    values : array, shape (n,) or (subject, n)

    Returns
    -------
    float
        NaN where a value is NaN or there are fewer than two stimuli or blocks.
    """
    rows = _by_block(np.atleast_2d(values), blocks)
    subjects, n = rows.shape
    if n < 2 or not np.isfinite(rows).all():
        return math.nan
    of_stimuli = _t(n - 1) ** 2 * float(rows.mean(axis=0).var(ddof=1)) / n
    if subjects == 1:
        return math.sqrt(of_stimuli)
    by_subject = rows.mean(axis=1)
    rest = rows - rows.mean(axis=0) - by_subject[:, None] + rows.mean()
    of_rest = float((rest * rest).sum()) / ((n - 1) * (subjects - 1))
    beyond = max(0.0, n * float(by_subject.var(ddof=1)) - of_rest) / (subjects * n)
    return math.sqrt(of_stimuli + _t(subjects - 1) ** 2 * beyond)


def _t(freedom: int) -> float:
    return float(student.ppf((1 + LEVEL) / 2, freedom))


def _by_block(rows: Floats, blocks: Blocks | None) -> Floats:
    """Return one value a block, (subject, block), whose mean is that of all values, however long each block is."""
    if blocks is None:
        return rows
    _, index = np.unique(blocks, return_inverse=True)
    count = int(index.max(initial=-1)) + 1
    means = rows.mean(axis=1, keepdims=True)
    sums = np.zeros((len(rows), count))
    np.add.at(sums.T, index, (rows - means).T)
    return np.asarray(means + sums * (count / max(1, rows.shape[1])))


def mean_interval(values: Floats, *, span: Span = ANY, blocks: Blocks | None = None) -> tuple[float, float]:
    """Return the 95 % interval of the mean of per-stimulus values over subjects and stimuli.

    The mean and `half_width`; where the metric has a smallest and a largest value, on the logit scale between
    them, so that an interval near the end is longer away from it and stays inside. Where every value of a share is at
    the end of its span, as when all stimuli are identified, the far bound is the exact binomial one: 1 − .05^(1/n) of
    the population may be otherwise and never have been seen (Clopper and Pearson 1934, *Biometrika* 26:404, one-sided).

    Parameters
    ----------
    values : array, shape (n,) or (subject, n)
        A stimulus's influences on the mean (`Metric.influences`), which are its values where nothing else enters them.
    span : smallest and largest possible value
    blocks : (n,) where stimuli are ordered in time; see `TimeOrder.blocks`

    Returns
    -------
    (low, high)
        Both NaN where a value is NaN or where there are fewer than two stimuli, or blocks.
    """
    reach = half_width(values, blocks=blocks)
    if math.isnan(reach):
        return math.nan, math.nan
    mean = float(np.mean(values))
    if reach <= AT_END * max(1.0, abs(mean)):
        return _of_equal_values(mean, span, _count(values, blocks))
    low, high = span
    if not (math.isfinite(low) and math.isfinite(high) and low < mean < high):
        return max(low, mean - reach), min(high, mean + reach)
    share, width = (mean - low) / (high - low), high - low
    on_scale = reach / (width * share * (1 - share))
    bounds = expit(logit(share) + np.array([-on_scale, on_scale]))
    return float(low + width * bounds[0]), float(low + width * bounds[1])


def _of_equal_values(mean: float, span: Span, n: int) -> tuple[float, float]:
    """Return the interval of a mean of values that are all equal: wider than 0 where they are a share's end."""
    if span == SHARE and abs(mean - 1.0) <= AT_END:
        return (1 - LEVEL) ** (1 / n), mean
    if span == SHARE and abs(mean) <= AT_END:
        return mean, 1.0 - (1 - LEVEL) ** (1 / n)
    return mean, mean


def _count(values: Floats, blocks: Blocks | None) -> int:
    return int(values.shape[-1] if blocks is None else len(np.unique(blocks)))


def paired_interval(
    a: Floats, b: Floats, *, span: Span = ANY, blocks: Blocks | None = None
) -> tuple[float, float, float]:
    """Return by how much the mean of a exceeds that of b, with the interval of this difference.

    A stimulus that is hard for both does not widen the interval: two rows may differ clearly while their own intervals
    overlap. Where all differences are equal because a row's values are all at the end of their span, the interval is
    as wide as those of the two rows: five clips that are all identified show little of a difference.

    Parameters
    ----------
    a, b : values, or influences, of the same stimuli in the same order, (n,) or (subject, n)
    span, blocks : see `mean_interval`; the span is that of a and b

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
    if not differences.size:
        return math.nan, math.nan, math.nan
    mean = float(differences.mean())
    low, high = mean_interval(differences, blocks=blocks)
    if low == high:
        (a_low, a_high), (b_low, b_high) = (mean_interval(row, span=span, blocks=blocks) for row in (a, b))
        if {float(np.ptp(row)) for row in (a, b)} == {0.0}:
            return mean, a_low - b_high, a_high - b_low
    return mean, low, high


def _differences(a: Floats, b: Floats) -> Floats:
    if a.shape != b.shape:
        raise ValueError(f"{a.shape[-1]} and {b.shape[-1]} values; a paired comparison needs the same stimuli in both")
    return a - b


def paired_p(a: Floats, b: Floats, *, seed: int, blocks: Blocks | None = None, draws: int = FLIPS) -> float:
    """Return how often chance alone would make a differ from b as much as it does: a paired permutation test.

    Two-sided. Under the null hypothesis it is random which of a stimulus's two values is a's, so every difference may
    have either sign (Fisher 1935, *The Design of Experiments*; Pitman 1937, *Supplement to the JRSS* 4:119). The test
    is exact where that holds. Against the mean of several shuffled orders it holds nearly: the differences then have
    mean zero and a distribution that need not be symmetric. Where neighbours in time resemble each other, the signs of
    a block flip together (Canay, Romano and Shaikh 2017, *Econometrica* 85:1013): with B blocks no p is below 2^(1-B).

    Parameters
    ----------
    a, b : values of the same stimuli in the same order, (n,) or (subject, n); subjects are averaged first
    blocks : (n,) where stimuli are ordered in time; see `TimeOrder.blocks`
    draws : flips of all signs that are tried; up to 13 stimuli or blocks, each of the 2ⁿ is tried once and nothing is
        drawn

    Returns
    -------
    float
        The share of flips whose sum is at least as far from 0 as the observed one, which counts as one of them, so it
        is never 0. NaN where a value is NaN or there are fewer than two stimuli or blocks.

    Raises
    ------
    ValueError
        The numbers of stimuli or subjects differ.
    """
    differences = np.atleast_2d(_differences(a, b)).mean(axis=0)
    if blocks is not None:
        _, index = np.unique(blocks, return_inverse=True)
        differences = np.bincount(index, weights=differences)
    n = len(differences)
    if n < 2 or not np.isfinite(differences).all():
        return math.nan
    bound = abs(differences.sum()) - TIE * np.abs(differences).sum()
    if n <= EXACT:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float((np.abs((1.0 - 2.0 * bits) @ differences) >= bound).mean())
    signs = 1.0 - 2.0 * rng_for(seed, "flips").integers(0, 2, size=(draws, n))
    return float((1 + (np.abs(signs @ differences) >= bound).sum()) / (1 + draws))


def reordered_p(observed: float, null: Floats) -> float:
    """Return how often predictions in another order score as far from the middle of all orders as in their own.

    Two-sided. Where stimuli may be exchanged, predictions that know nothing of them score alike in all orders, and the
    test is exact (Fisher 1935; Hemerik and Goeman 2018, *TEST* 27:811, for orders that are drawn). Where they are
    ordered in time, the orders are shifts whose end joins the beginning: unrelated stationary series keep their joint
    distribution, but for the place where they are joined, however long neighbours resemble each other.

    Parameters
    ----------
    null : (order,) the score in other orders

    Returns
    -------
    float
        The share of orders whose score is as far from the mean over all; the observed one counts as one of them. NaN
        where a score is NaN or there is no other order.
    """
    scores = np.append(null, observed)
    if not len(null) or not np.isfinite(scores).all():
        return math.nan
    away = np.abs(scores - scores.mean())
    return float((away >= away[-1] - TIE * max(1.0, float(away.max()))).mean())


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


def adjusted_by_orders(observed: Mapping[str, float], nulls: Mapping[str, Floats]) -> dict[str, float]:
    """Adjust tests by `reordered_p` that share their orders, with no loss where the tests go together.

    The step-down maximum of Westfall and Young (1993, *Resampling-Based Multiple Testing*, algorithm 2.8): each score's
    distance from the middle of its orders, in their standard deviations, is compared with the largest among the
    metrics that are no further away, order by order. It bounds the chance of any false positive, as Holm's method
    does, but no p is multiplied: with few orders, as of shifts of one film, a multiplied one could never be small.

    Parameters
    ----------
    observed : the score of each metric
    nulls : (order,) of each metric, the score in the same other orders

    Returns
    -------
    dict
        The adjusted p of each metric, never below its `reordered_p`; NaN where a score is NaN or there is no order.
    """
    scores = {name: np.append(nulls[name], value) for name, value in observed.items()}
    adjusted = dict.fromkeys(observed, math.nan)
    away = {}
    for name, own in scores.items():
        if len(own) > 1 and np.isfinite(own).all():
            spread = float(own.std())
            distance = np.abs(own - own.mean())
            away[name] = distance / spread if spread > TIE * max(1.0, float(distance.max())) else np.zeros(len(own))
    largest = np.zeros(len(next(iter(away.values()), [])))
    steps = {}
    for name in sorted(away, key=lambda name: float(away[name][-1])):  # the least far away first
        largest = np.maximum(largest, away[name])
        steps[name] = float((largest >= away[name][-1] - TIE * max(1.0, float(largest.max()))).mean())
    highest = 0.0
    for name in reversed(steps):
        highest = max(highest, steps[name])
        adjusted[name] = highest
    return adjusted


def scheme(subjects: int = 1, *, in_time: bool = False) -> str:
    """Return one sentence that names how a report's intervals are computed, for its key `intervals`."""
    what = "blocks of neighbours in time" if in_time else "test stimuli"
    over = f"{subjects} subjects crossed with {what}" if subjects > 1 else what
    return (
        f"95 % intervals are of a jackknife over {over}, each stimulus left out as prediction and as candidate, with "
        "Student's t, on the logit scale where a score is bounded; where all values are 1, the exact binomial bound."
    )
