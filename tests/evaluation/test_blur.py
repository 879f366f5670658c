"""Blurring as a prediction blurs: against ridge regression itself, and at the correlation asked for."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from core.errors import ModelError
from zoo.score import blur_like_prediction


def targets(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return rows with components of very different sizes, (n, 4, 5)."""
    basis = np.linalg.qr(np.random.default_rng(9).normal(size=(20, 20)))[0]
    return ((rng.normal(size=(n, 20)) * 2.0 ** -np.arange(20)) @ basis).reshape(n, 4, 5) + 3


def centred_correlation(one: np.ndarray, other: np.ndarray, mean: np.ndarray) -> float:
    pairs = zip((one - mean).reshape(len(one), -1), (other - mean).reshape(len(one), -1), strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


@pytest.mark.parametrize("wanted", [0.4, 0.7, 0.95])
def test_the_correlation_is_what_was_asked_for(rng: np.random.Generator, wanted: float):
    known, values = targets(rng, 400), targets(rng, 200)
    blurred = blur_like_prediction(values, known, wanted, rng)
    assert blurred.shape == values.shape
    assert centred_correlation(blurred, values, known.mean(axis=0)) == pytest.approx(wanted, abs=0.003)


def test_components_shrink_as_under_ridge(rng: np.random.Generator):
    """A brain of noisy voxels, regressed by ridge, keeps of each component about what the blur keeps."""
    known, values = targets(rng, 2000), targets(rng, 500)
    weights = rng.normal(size=(20, 60))

    def brain(rows: np.ndarray) -> np.ndarray:
        return (rows.reshape(len(rows), -1) - 3) @ weights + rng.normal(size=(len(rows), 60)) * 2.5

    predicted = Ridge(alpha=20).fit(brain(known), known.reshape(2000, -1)).predict(brain(values)).reshape(values.shape)
    reached = centred_correlation(predicted, values, known.mean(axis=0))
    blurred = blur_like_prediction(values, known, reached, rng)
    components = np.linalg.svd((known - known.mean(axis=0)).reshape(2000, -1), full_matrices=False)[2][:6]
    kept = [((rows - 3).reshape(500, -1) @ components.T).std(axis=0) for rows in (blurred, predicted, values)]
    np.testing.assert_allclose(kept[0] / kept[2], kept[1] / kept[2], atol=0.12)


def test_what_cannot_be_reached_is_one_line(rng: np.random.Generator):
    values = targets(rng, 20)
    with pytest.raises(ModelError, match=r"correlation 1\.2: must lie between 0 and 1"):
        blur_like_prediction(values, values, 1.2, rng)
    with pytest.raises(ModelError, match=r"correlation 0\.99: 2 known targets reach"):
        blur_like_prediction(values, values[:2], 0.99, rng)
