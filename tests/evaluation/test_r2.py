"""R² against scikit-learn's, and the spaces less their training mean that it lives in."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from evaluation.metrics import metric
from evaluation.statistics.controls import mean_prediction, shuffle_stimuli
from evaluation.statistics.intervals import mean_interval
from evaluation.statistics.spaces import centre, centred, is_centred, plain


@pytest.fixture
def truth(rng: np.random.Generator) -> np.ndarray:
    """Deviations from a training mean, with features of very different variance and a mean that is not 0."""
    return rng.normal(0.3, 2.0 ** -np.arange(12), size=(40, 12)).reshape(40, 3, 4)


def test_its_mean_is_the_pooled_one_of_scikit_learn(rng: np.random.Generator, truth: np.ndarray):
    prediction = 0.6 * truth + rng.normal(0, 0.1, size=truth.shape)

    def mirrored(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, -rows]).reshape(80, -1)  # so that every feature's mean is 0, the training mean

    wanted = r2_score(mirrored(truth), mirrored(prediction), multioutput="variance_weighted")
    values = metric("r2").per_stimulus(prediction, truth)
    assert values.mean() == pytest.approx(wanted, rel=1e-12)
    assert abs(wanted - r2_score(truth.reshape(40, -1), prediction.reshape(40, -1))) > 0.05
    i = 7
    error, spread = np.square(prediction[i] - truth[i]).sum(), np.square(truth).sum() / 40
    assert values[i] == pytest.approx(1 - error / spread)


def test_the_training_mean_earns_0_and_the_truth_1(truth: np.ndarray):
    assert metric("r2").per_stimulus(np.zeros_like(truth), truth).mean() == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_array_equal(metric("r2").per_stimulus(truth, truth), 1.0)


def test_noise_earns_less_than_the_training_mean(rng: np.random.Generator):
    truth, prediction = rng.normal(size=(2, 300, 50))
    low, high = mean_interval(metric("r2").per_stimulus(prediction, truth))
    assert low < -1 < high  # twice the variance of the truth


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_not_finite_has_no_value(truth: np.ndarray, broken: float):
    prediction = truth.copy()
    prediction[3, 1, 2] = broken
    values = metric("r2").per_stimulus(prediction, truth)
    assert np.isnan(values[3])
    np.testing.assert_array_equal(np.delete(values, 3), 1.0)


def test_without_any_deviation_there_is_none_to_explain(truth: np.ndarray):
    assert np.isnan(metric("r2").per_stimulus(truth, np.zeros_like(truth))).all()


def test_the_names_of_spaces():
    assert centred("latents") == centred("latents_centred") == "latents_centred"
    assert plain("latents_centred") == plain("latents") == "latents"
    assert [is_centred(space) for space in ("latents", "latents_centred", "centred")] == [False, True, False]


def test_centring_makes_the_mean_predictor_nothing(rng: np.random.Generator):
    training = (rng.normal(size=(500, 3, 4)) + 10).astype(np.float32)
    mean = mean_prediction(training, 6)
    rows = training[:6].astype(np.float16)
    for given in (mean, mean[0], training.mean(axis=0, dtype=np.float64)):
        np.testing.assert_array_equal(centre(mean, given), 0.0)
        np.testing.assert_allclose(centre(rows, given), rows - training.mean(axis=0), atol=1e-5)
        assert centre(rows, given).dtype == np.float32
    of_mean = metric("correlation").per_stimulus(centre(mean, mean), centre(rows, mean))
    np.testing.assert_array_equal(of_mean, 0.0)
    assert metric("correlation").per_stimulus(mean[:, :1], mean[:, :1]).mean() == pytest.approx(1.0)


def test_centring_shows_what_the_shared_mean_hides(rng: np.random.Generator):
    """A model of no use correlates near 1 where stimuli resemble each other, and 0 once their mean is gone."""
    mean = 10 * rng.normal(size=200)
    truth = mean + rng.normal(size=(100, 200))
    useless = truth[shuffle_stimuli(100, 1)]
    assert metric("correlation").per_stimulus(useless, truth).mean() > 0.95
    low, high = mean_interval(metric("correlation").per_stimulus(centre(useless, mean), centre(truth, mean)))
    assert low < 0.03
    assert high < 0.1


def test_a_mean_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"training mean \(4, 3\); expected \(3, 4\)"):
        centre(np.zeros((5, 3, 4)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="training mean"):
        centre(np.zeros((5, 4)), np.zeros(()))
