"""The ceiling that test noise sets, against predictions whose noise is known."""

import numpy as np
import pytest

from evaluation.metrics import metric
from evaluation.statistics.controls import prediction_ceiling, with_test_noise
from evaluation.statistics.scores import summarise


def predictions(rng: np.random.Generator, noise: float, repeats: int, n: int = 300) -> tuple[np.ndarray, ...]:
    """Return what is evoked (n, 4, 50), the prediction from each half of the repetitions and from all of them."""
    evoked = rng.normal(size=(n, 4, 50))
    trials = evoked[:, None] + noise * rng.normal(size=(n, repeats, 4, 50))
    halves = trials[:, ::2].mean(axis=1), trials[:, 1::2].mean(axis=1)
    return evoked, *halves, trials.mean(axis=1)


@pytest.mark.parametrize(("noise", "repeats"), [(1.0, 10), (3.0, 10), (2.0, 4), (1.0, 2)])
def test_the_true_ceiling_is_recovered(rng: np.random.Generator, noise: float, repeats: int):
    evoked, one, other, whole = predictions(rng, noise, repeats)
    estimated = prediction_ceiling(one, other)
    assert estimated.shape == (300,)
    assert estimated.mean() == pytest.approx(1 / np.sqrt(1 + noise**2 / repeats), abs=0.01)
    assert estimated.mean() == pytest.approx(metric("correlation").per_stimulus(whole, evoked).mean(), abs=0.01)


def test_no_truth_that_the_noise_does_not_know_is_reached_beyond_it(rng: np.random.Generator):
    evoked, one, other, whole = predictions(rng, 3.0, 10)
    truth = evoked + 0.5 * rng.normal(size=evoked.shape)
    reached = metric("correlation").per_stimulus(whole, truth).mean()
    ceiling = prediction_ceiling(one, other).mean()
    assert reached < ceiling
    noiseless = metric("correlation").per_stimulus(evoked, truth).mean()
    assert reached / ceiling == pytest.approx(noiseless, abs=0.02)  # what less test noise would bring


def test_halves_that_disagree_have_no_ceiling_to_speak_of(rng: np.random.Generator):
    one, other = rng.normal(size=(2, 200, 2000))
    estimated = prediction_ceiling(one, other)
    assert (estimated == 0.0).sum() > 60
    assert estimated.mean() < 0.15
    np.testing.assert_array_equal(prediction_ceiling(one, -one), 0.0)
    np.testing.assert_allclose(prediction_ceiling(one, 2 * one), 1.0)


def test_a_half_that_is_not_finite_has_no_value(rng: np.random.Generator):
    _, one, other, _ = predictions(rng, 1.0, 4, n=5)
    other[2, 0, 0] = np.nan
    np.testing.assert_array_equal(np.isnan(prediction_ceiling(one, other)), [False, False, True, False, False])


def test_halves_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"halves \(5, 3\) and \(4, 3\)"):
        prediction_ceiling(np.zeros((5, 3)), np.zeros((4, 3)))


def test_it_becomes_a_row(rng: np.random.Generator):
    _, one, other, _ = predictions(rng, 1.0, 4)
    values = {"noise_ceiling": {"latents_centred.correlation": prediction_ceiling(one, other)}}
    entry = summarise(values)["noise_ceiling"]["latents_centred.correlation"]
    low, high = entry["ci95"]
    assert low < entry["value"] < high
    assert entry["value"] == pytest.approx(np.sqrt(0.8), abs=0.01)


def shrunken(rng: np.random.Generator, noise: float, gain: float, repeats: int = 10, n: int = 300):
    """Return the truth, and what a model that shrinks by `gain` makes of all repetitions and of either half."""
    truth, one, other, whole = predictions(rng, noise, repeats, n)
    return truth, gain * whole, (gain * one, gain * other)


@pytest.mark.parametrize(("noise", "gain"), [(1.0, 1.0), (3.0, 0.3), (2.0, 0.05)])
def test_true_targets_get_the_noise_of_the_responses_whatever_the_shrinkage(rng, noise: float, gain: float):
    truth, whole, halves = shrunken(rng, noise, gain)
    noisy = with_test_noise(truth, whole, halves, np.zeros(truth.shape[1:]))
    assert noisy is not None
    assert noisy.dtype == np.float32
    reached = metric("correlation").per_stimulus(noisy, truth).mean()
    assert reached == pytest.approx(metric("correlation").per_stimulus(whole, truth).mean(), abs=0.01)
    assert np.mean((noisy - truth) ** 2) == pytest.approx(noise**2 / 10, rel=0.05)


def test_a_worse_model_has_the_ceiling_of_its_responses_and_not_of_its_own_faults(rng):
    truth, whole, halves = shrunken(rng, 1.0, 1.0)
    wrong = np.roll(truth, 1, axis=-1)  # predicts another feature: reliably, and wrongly
    shift = wrong - truth
    noisy = with_test_noise(truth, whole + shift, tuple(half + shift for half in halves), np.zeros(truth.shape[1:]))
    assert metric("correlation").per_stimulus(noisy, truth).mean() > 0.9
    assert metric("correlation").per_stimulus(whole + shift, truth).mean() < 0.1


def test_without_a_signal_there_is_no_ceiling(rng):
    one, other = rng.normal(size=(2, 50, 30))
    mean = (one + other) / 2
    assert with_test_noise(one, mean - mean, (one, other), np.zeros(30)) is None
    with pytest.raises(ValueError, match="expected one shape"):
        with_test_noise(one, one, (one[:, :5], other[:, :5]), np.zeros(30))
