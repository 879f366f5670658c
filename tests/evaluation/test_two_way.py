"""Two-way identification against a double loop that asks every pair by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr

from core.seeds import rng_for
from evaluation.metrics import metric
from evaluation.statistics.intervals import mean_interval

small = st.integers(2, 5).flatmap(
    lambda n: st.tuples(
        *[arrays(np.int8, (n, 4), elements=st.integers(-2, 2)) for _ in range(2)],
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
    )
)


def correlate(one, other):
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(pearsonr(one.astype(float), other.astype(float)).statistic)


def by_hand(prediction, truth, groups):
    values = []
    for i in range(len(truth)):
        own = correlate(prediction[i], truth[i])
        others = [j for j in range(len(truth)) if j != i and groups[j] == groups[i]]
        leads = [own - correlate(prediction[i], truth[j]) for j in others]
        won = [0.5 if abs(lead) < 1e-9 else float(lead > 0) for lead in leads]
        values.append(np.mean(won) if won else np.nan)
    return np.array(values)


@settings(max_examples=60, deadline=None)
@given(small)
def test_equals_the_double_loop_ties_included(drawn):
    prediction, truth, groups = drawn
    np.testing.assert_allclose(
        metric("two_way").per_stimulus(prediction, truth), by_hand(prediction, truth, [0] * len(truth))
    )
    np.testing.assert_allclose(
        metric("two_way_within_class").per_stimulus(prediction, truth, groups), by_hand(prediction, truth, groups)
    )


@pytest.mark.parametrize("name", ["two_way", "two_way_within_class"])
def test_noise_lands_on_chance(name):
    rng = rng_for(0, "null")
    truth, prediction = rng.normal(size=(2, 200, 50))
    values = metric(name).per_stimulus(prediction, truth, np.arange(200) % 4)
    low, high = mean_interval(values)
    assert low < metric(name).chance < high


@pytest.mark.parametrize("constant", [True, False])
def test_one_prediction_for_all_earns_chance_exactly(constant):
    truth = rng_for(0, "mean").normal(size=(9, 20))
    prediction = np.full_like(truth, 0.1) if constant else np.repeat(truth[:1] + 1, 9, axis=0)
    assert metric("two_way").per_stimulus(prediction, truth).mean() == pytest.approx(0.5, abs=1e-12)


def test_truth_against_itself_is_always_identified():
    truth = rng_for(0, "clips").integers(0, 256, size=(12, 3, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(metric("two_way").per_stimulus(truth, truth), np.ones(12))


def test_equal_stimuli_tie_at_any_width():
    truth = rng_for(0, "twins").normal(size=(1, 20_000)).repeat(37, axis=0)
    prediction = truth + rng_for(0, "noise").normal(size=truth.shape)
    np.testing.assert_array_equal(metric("two_way").per_stimulus(prediction, truth), np.full(37, 0.5))


def test_a_prediction_that_is_not_finite_has_no_value_and_spoils_no_other():
    truth = rng_for(0, "nan").normal(size=(6, 10))
    prediction = truth.copy()
    prediction[2, 3], prediction[4, 0] = np.nan, np.inf
    values = metric("two_way").per_stimulus(prediction, truth)
    np.testing.assert_array_equal(np.isnan(values), [False, False, True, False, True, False])
    np.testing.assert_array_equal(values[[0, 1, 3, 5]], np.ones(4))


def test_alone_there_is_no_question():
    truth = rng_for(0, "alone").normal(size=(3, 10))
    assert np.isnan(metric("two_way").per_stimulus(truth[:1], truth[:1])).all()
    within = metric("two_way_within_class")
    np.testing.assert_array_equal(within.per_stimulus(truth, truth, ["a", "b", "a"]), [1.0, np.nan, 1.0])
    np.testing.assert_array_equal(within.counted(3, ["a", "b", "a"]), [True, False, True])
