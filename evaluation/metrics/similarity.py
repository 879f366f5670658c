"""How close every prediction is to every stimulus: what correlation and all identification rest on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, Function, OfSimilarity, PerStimulus, register

Floats = NDArray[np.float64]
TIE = 1e-9
"""Correlations closer than this are equal: a blocked matrix product may round equal columns differently."""
BLOCK = 2**13
"""Features that are looked at together: long clips need no copy in double precision, and a block stays in the cache."""


@dataclass(frozen=True)
class _Moments:
    """What makes rows unit vectors: `middle` their means, `scale` the largest deviations, 0 of a constant row."""

    rows: Array
    finite: NDArray[np.bool_]
    middle: Floats
    scale: Floats

    @classmethod
    def of(cls, array: Array) -> "_Moments":
        rows = array.reshape(len(array), -1)
        finite = np.asarray(np.isfinite(rows).all(axis=1)) if rows.dtype.kind == "f" else np.ones(len(rows), bool)
        known = np.where(finite[:, None], rows, 0) if not finite.all() else rows
        middle = known.mean(axis=1, dtype=np.float64)
        # Asked of the values themselves: a constant less its rounded mean may leave a residue that looks like a pattern
        high, low = known.max(axis=1).astype(np.float64), known.min(axis=1).astype(np.float64)
        scale = np.where(high == low, 0.0, np.maximum(high - middle, middle - low))
        return cls(known, finite, middle, scale)

    def blocks(self) -> Iterator[Floats]:
        """Yield deviations from the mean, the largest of a row 1, some features at a time."""
        scale = np.where(self.scale == 0.0, np.inf, self.scale)[:, None]
        for start in range(0, self.rows.shape[1], BLOCK):
            yield (self.rows[:, start : start + BLOCK].astype(np.float64) - self.middle[:, None]) / scale


def similarity(prediction: Array, truth: Array) -> Floats:
    """Return Pearson's r of every prediction with every truth, over all features of a stimulus.

    Parameters
    ----------
    prediction, truth : arrays of one shape, (n, ...)

    Returns
    -------
    array, shape (n, n)
        Entry (i, j) is corr(prediction i, truth j), from −1 to 1. A constant row correlates 0 with everything; what
        is not finite has NaN.
    """
    ours, theirs = _Moments.of(prediction), _Moments.of(truth)
    products = np.zeros((len(prediction), len(truth)))
    squares = np.zeros((2, len(prediction)))
    for one, other in zip(ours.blocks(), theirs.blocks(), strict=True):
        products += one @ other.T
        squares[0] += np.einsum("nf,nf->n", one, one)
        squares[1] += np.einsum("nf,nf->n", other, other)
    lengths = np.sqrt(np.where(squares == 0.0, 1.0, squares))
    r = products / lengths[0][:, None] / lengths[1]
    r[~ours.finite] = np.nan
    r[:, ~theirs.finite] = np.nan
    return np.asarray(r)


def leads(r: Floats) -> Floats:
    """Return by how much each prediction's own stimulus leads over every stimulus, in Pearson's r.

    Parameters
    ----------
    r : array, shape (n, n)
        As `similarity` returns it.

    Returns
    -------
    array, shape (n, n)
        Entry (i, j) is ``corr(prediction i, truth i) - corr(prediction i, truth j)``, zero on the diagonal; the row of
        a prediction that is not finite is NaN. Leads within `TIE` of zero are ties.
    """
    return np.asarray(np.diag(r)[:, None] - r)


def register_of_similarity(name: str, **settings: Any) -> Callable[[OfSimilarity], OfSimilarity]:
    """Enter a function ``(r, groups) -> (n,)`` of the correlations (n, n) as a metric; settings as of `Metric`."""

    def enter(of_similarity: OfSimilarity) -> OfSimilarity:
        register(name, of_similarity=of_similarity, **settings)(_from_arrays(of_similarity))
        return of_similarity

    return enter


def _from_arrays(of_similarity: OfSimilarity) -> Function:
    def function(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:
        return of_similarity(similarity(prediction, truth), groups)

    function.__doc__ = of_similarity.__doc__
    return function
