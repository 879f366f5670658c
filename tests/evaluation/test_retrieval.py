"""Retrieval among many against drawing the candidates by hand, and what it owes to chance."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import hypergeom

from core.seeds import rng_for
from evaluation.metrics import metric
from evaluation.metrics.vectors import retrieval, similarity
from evaluation.statistics.intervals import mean_interval

small = st.integers(3, 6).flatmap(
    lambda n: st.tuples(*[arrays(np.int8, (n, 4), elements=st.integers(-2, 2)) for _ in range(2)], st.integers(2, n))
)


def correlate(one: np.ndarray, other: np.ndarray) -> float:
    constant = np.ptp(one) == 0 or np.ptp(other) == 0
    return 0.0 if constant else float(np.corrcoef(one.astype(float), other.astype(float))[0, 1])


def by_hand(prediction: np.ndarray, truth: np.ndarray, ways: int) -> np.ndarray:
    """Ask every set of candidates; a first place that several share is worth its share."""
    values = []
    for i in range(len(truth)):
        scores = [correlate(prediction[i], one) for one in truth]
        shares = []
        for drawn in combinations([j for j in range(len(truth)) if j != i], ways - 1):
            best = max(scores[i], *(scores[j] for j in drawn))
            first = [abs(scores[j] - best) < 1e-9 for j in (i, *drawn)]
            shares.append(first[0] / sum(first))
        values.append(np.mean(shares))
    return np.array(values)


@settings(max_examples=80, deadline=None)
@given(small)
def test_equals_every_set_of_candidates_ties_included(drawn):
    prediction, truth, ways = drawn
    found = retrieval(ways)(similarity(prediction, truth))
    np.testing.assert_allclose(found, by_hand(prediction, truth, ways), atol=1e-12)


@pytest.mark.parametrize("ways", [10, 50])
def test_equals_a_simulation(ways: int):
    rng = rng_for(0, "retrieval", ways)
    truth = rng.normal(size=(60, 30))
    truth[50:] = truth[:10]  # twins tie
    prediction = truth + 1.5 * rng.normal(size=truth.shape)
    values = metric(f"retrieval_{ways}").per_stimulus(prediction, truth)
    r = np.round(np.corrcoef(prediction, truth)[:60, 60:], 9)
    draws = 4000
    for i in (0, 17, 55):
        others = np.delete(np.arange(60), i)
        hits = 0.0
        for _ in range(draws):
            candidates = np.append(rng.permutation(others)[: ways - 1], i)
            best = candidates[r[i, candidates] == r[i, candidates].max()]
            hits += float(rng.choice(best) == i)
        assert values[i] == pytest.approx(hits / draws, abs=4 * 0.5 / np.sqrt(draws))
    assert np.ptp(values) > 0.3


def test_the_share_of_draws_without_a_winner_is_hypergeometric():
    rng = rng_for(0, "large")
    truth = rng.normal(size=(3000, 20))
    prediction = truth + 4 * rng.normal(size=truth.shape)
    r = np.corrcoef(prediction, truth)[:3000, 3000:]
    winners = (r > np.diag(r)[:, None]).sum(axis=1)
    values = metric("retrieval_50").per_stimulus(prediction, truth)
    np.testing.assert_allclose(values, hypergeom.pmf(0, 2999, winners, 49), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("ways", [10, 50])
def test_noise_lands_on_chance(ways: int):
    truth, prediction = rng_for(0, "null").normal(size=(2, 200, 50))
    values = metric(f"retrieval_{ways}").per_stimulus(prediction, truth)
    low, high = mean_interval(values)
    assert low < 1 / ways < high
    assert metric(f"retrieval_{ways}").chance == 1 / ways


@pytest.mark.parametrize("ways", [10, 50])
@pytest.mark.parametrize("constant", [True, False])
def test_one_prediction_for_all_earns_chance_exactly(ways: int, constant: bool):
    truth = rng_for(0, "mean").normal(size=(63, 20))
    prediction = np.full_like(truth, 0.1) if constant else np.repeat(truth[:1] + 1, 63, axis=0)
    values = metric(f"retrieval_{ways}").per_stimulus(prediction, truth)
    assert values.mean() == pytest.approx(1 / ways, abs=1e-12)
    assert (np.ptp(values) < 1e-12) == constant


def test_two_ways_are_two_way_identification():
    truth, prediction = rng_for(0, "two").integers(-1, 2, size=(2, 40, 6))
    np.testing.assert_allclose(
        retrieval(2)(similarity(prediction, truth)), metric("two_way").per_stimulus(prediction, truth)
    )


def test_truth_is_retrieved_from_itself_and_twins_share():
    truth = rng_for(0, "truth").normal(size=(10, 30))
    np.testing.assert_array_equal(metric("retrieval_10").per_stimulus(truth, truth), np.ones(10))
    truth[4] = truth[7]
    values = metric("retrieval_10").per_stimulus(truth, truth)
    np.testing.assert_allclose(values[[4, 7]], 0.5)
    np.testing.assert_array_equal(np.delete(values, [4, 7]), 1.0)


def test_a_prediction_that_is_not_finite_has_no_value_and_spoils_no_other():
    truth = rng_for(0, "nan").normal(size=(12, 10))
    prediction = truth.copy()
    prediction[2, 3], prediction[4, 0] = np.nan, np.inf
    values = metric("retrieval_10").per_stimulus(prediction, truth)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [2, 4])
    np.testing.assert_array_equal(np.delete(values, [2, 4]), 1.0)


@pytest.mark.parametrize("ways", [10, 50])
def test_fewer_stimuli_than_ways_cannot_be_asked(ways: int):
    chosen = metric(f"retrieval_{ways}")
    assert chosen.applies_to((ways, 5))
    assert not chosen.applies_to((ways - 1, 5))
    with pytest.raises(ValueError, match=f"with n from {ways}"):
        chosen.per_stimulus(np.zeros((ways - 1, 5)), np.zeros((ways - 1, 5)))
