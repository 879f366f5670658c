"""What is chosen on one half is reported on the other: equal routes are above 0 no more often than stated."""

import numpy as np
import pytest

from core.seeds import rng_for
from evaluation.statistics.selection import MIN_HALF, combined_p, cross_fit, halves, widened


@pytest.mark.parametrize("n", [0, 1, 4, 7, 150])
def test_halves_are_of_one_size(n: int) -> None:
    half = halves(n, seed=3)
    assert abs(int((half == 0).sum()) - int((half == 1).sum())) <= 1
    assert np.array_equal(half, halves(n, seed=3))


def test_halves_differ_by_seed_and_keep_blocks_whole() -> None:
    assert not np.array_equal(halves(50, seed=0), halves(50, seed=1))
    blocks = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    half = halves(30, seed=0, blocks=blocks)
    for block in range(10):
        assert len(set(half[blocks == block].tolist())) == 1
    assert abs(int((half == 0).sum()) - 15) <= 2


def test_no_stimulus_helps_to_choose_what_it_is_scored_by(rng: np.random.Generator) -> None:
    """A route that is excellent on one half alone is chosen there, and scored on the other, where it is poor."""
    half = halves(40, seed=5)
    values = {"even": np.zeros(40), "lucky": np.where(half == 0, 5.0, -5.0)}
    found = cross_fit(values, lambda own: max(own, key=lambda name: own[name].mean()), seed=5)
    assert found is not None
    assert found.chosen == ("even", "lucky"), "by half, what the other one chose"
    assert np.array_equal(found.of(values), np.where(half == 0, 0.0, -5.0))


def test_a_half_without_stimuli_enough_chooses_nothing() -> None:
    few = {"one": np.zeros(2 * MIN_HALF - 1), "two": np.ones(2 * MIN_HALF - 1)}
    assert cross_fit(few, min, seed=0) is None
    blocks = np.zeros(20, np.int64)
    assert cross_fit({"one": np.zeros(20), "two": np.ones(20)}, min, seed=0, blocks=blocks) is None


def test_an_interval_of_cross_fitted_values_is_as_wide_as_that_of_a_half() -> None:
    low, high = widened(0.5, 0.4, 0.7)
    assert (low, high) == pytest.approx((0.5 - 0.1 * np.sqrt(2), 0.5 + 0.2 * np.sqrt(2)))


def test_p_values_of_halves_are_combined_whatever_their_dependence() -> None:
    assert combined_p((0.01, 0.02)) == pytest.approx(0.03)
    assert combined_p((0.7, 0.6)) == 1.0
    assert np.isnan(combined_p((np.nan, 0.1)))
    p = rng_for(0, "p").random(20_000)
    for pair in (np.stack([p, p]), np.stack([p, 1 - p]), np.stack([p, rng_for(1, "p").random(20_000)])):
        assert np.mean([combined_p(own) for own in pair.T.tolist()] <= np.float64(0.05)) <= 0.055
