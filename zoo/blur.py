"""Blurs targets as a linear prediction from a brain blurs them: weak components vanish, strong ones keep some noise."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError

Floats = NDArray[np.float32]


def blur_like_prediction(
    values: NDArray[Any], known: NDArray[Any], correlation: float, rng: np.random.Generator
) -> Floats:
    """Return the best linear estimate of targets from noisy observations of them, at a given mean correlation.

    Every principal component of the known targets is seen with white noise of one size and shrunk by Wiener's factor
    ``λ / (λ + σ²)``, which is what ridge regression from many noisy voxels comes to; σ is found by bisection.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        Targets to blur.
    known : ndarray, shape (m, ...)
        Training targets: their mean and components are what a regression would know.
    correlation : float
        Mean over rows of the correlation of blurred with true, the known mean taken out, to within .002.
    rng : numpy.random.Generator

    Raises
    ------
    ModelError
        The correlation is not between 0 and 1, or the components of the known targets cannot reach it.
    """
    if not 0 < correlation < 1:
        raise ModelError(f"correlation {correlation}: must lie between 0 and 1")
    rows = np.asarray(known, dtype=np.float64).reshape(len(known), -1)
    mean = rows.mean(axis=0)
    _, sizes, components = np.linalg.svd(rows - mean, full_matrices=False)
    variances = sizes**2 / max(1, len(rows) - 1)
    true = np.asarray(values, dtype=np.float64).reshape(len(values), -1) - mean
    scores = true @ components.T
    noise = rng.standard_normal(scores.shape)

    def blurred(sigma: float) -> NDArray[np.float64]:
        return np.asarray((scores + sigma * noise) * (variances / (variances + sigma**2)) @ components)

    low, high = 1e-6 * float(np.sqrt(variances[0])), 1e3 * float(np.sqrt(variances[0]))
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if _correlation(blurred(middle), true) > correlation else (low, middle)
    if abs(_correlation(blurred(low), true) - correlation) > 0.002:
        raise ModelError(
            f"correlation {correlation}: {len(known)} known targets reach {_correlation(blurred(low), true):.3f} only"
        )
    return np.asarray((blurred(low) + mean).reshape(values.shape), dtype=np.float32)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())
