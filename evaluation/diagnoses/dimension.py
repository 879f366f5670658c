"""Output-dimension collapse: the effective dimension of predictions beside that of the true targets.

A model that was trained on clustered targets can learn to predict the cluster and nothing else; its predictions for new
stimuli then vary along few dimensions, however many the targets have. What looks like reconstruction is classification
(K. Shirakawa et al., *Spurious reconstruction from brain activity*, arXiv 2405.10078).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

BLOCK = 8192
"""Features in one block, so that wide targets are not copied whole."""
MIN_STIMULI = 3
"""Stimuli that a dimension needs: two always differ along exactly one."""
SHARE = 0.9


def effective_dimension(rows: Array) -> float:
    """Return the participation ratio of the rows' covariance: (Σ λ)² / Σ λ² over its eigenvalues λ.

    It is k where the variance lies evenly in k dimensions, and less where a few of them hold most of it. It does
    not depend on whether the rows are right.

    Noise spreads predictions as well: a low value is a sign of collapse, a high one is no proof of its absence.

    n rows span n − 1 dimensions at most, so the value is bounded by n − 1 and grows with n: it is no property of a
    model. Compare it only with the value of the true targets of the same n stimuli.

    Parameters
    ----------
    rows : array, shape (n, ...)

    Returns
    -------
    float
        From 1 to n − 1; 0 where all rows are equal.

    Raises
    ------
    ValueError
        A row is not finite.

    References
    ----------
    The ratio: P. Gao et al., bioRxiv 214262, *A theory of multineuronal dimensionality, dynamics and measurement*. Its
    use against predictions that collapse: K. Shirakawa et al., arXiv 2405.10078.
    """
    gram = _gram(rows, "rows")
    total, squares = float(np.trace(gram)), float((gram * gram).sum())  # Σ λ and Σ λ², without the eigenvalues
    return total * total / squares if squares else 0.0


def components_for(rows: Array, share: float = SHARE) -> int:
    """Return how many principal components hold a share of the rows' variance; n − 1 at most, 0 where rows are equal.

    For its bound, its use and its errors see `effective_dimension`.
    """
    return _reaches(cumulative_share(rows), share)


def cumulative_share(rows: Array) -> Floats:
    """Return which share of the rows' variance the first 1, 2, … n − 1 principal components hold, shape (n − 1,).

    Zeros where all rows are equal. Raises as `effective_dimension` does.
    """
    values = np.linalg.eigvalsh(_gram(rows, "rows"))[::-1][: max(len(rows) - 1, 0)].clip(0.0)
    total = values.sum()
    return np.asarray(values.cumsum() / total) if total else np.zeros_like(values)


def _reaches(shares: Floats, share: float) -> int:
    if not len(shares) or not shares[-1]:
        return 0
    return int(np.searchsorted(shares, share - 1e-12)) + 1


def dimension_report(prediction: Array, target: Array) -> dict[str, Any]:
    """Compare the dimensions of predictions with those of the true targets of the same stimuli.

    Parameters
    ----------
    prediction, target : arrays, shape (n, ...)

    Returns
    -------
    dict
        ``{"prediction", "target", "ratio", "components_90": [prediction, target], "n"}``: effective dimensions, their
        ratio (well below 1: the predictions have collapsed), and the components that hold 90 % of the variance. Null
        below three stimuli; the ratio also where the targets do not vary.

    Raises
    ------
    ValueError
        The shapes differ, or a row is not finite.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"dimension: prediction {prediction.shape} and target {target.shape}; expected one shape")
    _require_finite(prediction, "prediction")
    _require_finite(target, "target")
    n = len(target)
    if n < MIN_STIMULI:
        return {"prediction": None, "target": None, "ratio": None, "components_90": [None, None], "n": n}
    ours, theirs = effective_dimension(prediction), effective_dimension(target)
    return {
        "prediction": ours,
        "target": theirs,
        "ratio": ours / theirs if theirs else None,
        "components_90": [components_for(prediction), components_for(target)],
        "n": n,
    }


def _gram(rows: Array, what: str) -> Floats:
    """Return the products of the centred rows with each other, (n, n), largest variance 1.

    Its non-zero eigenvalues are those of the covariance matrix, up to a factor, and it has n² entries instead of
    features².
    """
    _require_finite(rows, what)
    gram = np.zeros((len(rows), len(rows)))
    largest = float(np.abs(rows).max(initial=0.0))
    for part in _blocks(rows):
        varies = part.max(axis=0) > part.min(axis=0)  # the rounded mean of a constant would leave a residue
        scaled = part[:, varies] / (largest or 1.0)
        scaled -= scaled.mean(axis=0)
        gram += scaled @ scaled.T
    return gram / (np.diag(gram).max(initial=0.0) or 1.0)


def _require_finite(rows: Array, what: str) -> None:
    for part in _blocks(rows):
        finite = np.isfinite(part).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"dimension: {what} {int(np.argmin(finite))} is not finite; check what it was computed from"
            )


def _blocks(rows: Array) -> Iterator[Floats]:
    flat = rows.reshape(len(rows), -1) if len(rows) else rows.reshape(0, 0)
    for start in range(0, flat.shape[1], BLOCK):
        yield flat[:, start : start + BLOCK].astype(np.float64)
