"""The ceiling that test noise sets, against predictions whose noise is known."""

import numpy as np
import pytest

from evaluation.ceiling import prediction_ceiling
from evaluation.metrics import metric
from evaluation.scores import summarise


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
    entry = summarise(values, seed=0)["noise_ceiling"]["latents_centred.correlation"]
    low, high = entry["ci95"]
    assert low < entry["value"] < high
    assert entry["value"] == pytest.approx(np.sqrt(0.8), abs=0.01)
