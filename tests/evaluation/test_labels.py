"""Attributes against scikit-learn's accuracy, and their chance against dealing the truth by hand."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score

from evaluation.metrics import metric
from evaluation.metrics.registry import chance_of_others
from evaluation.statistics.intervals import mean_interval

NAMES = ("attribute_accuracy", "all_attributes")
tables = st.tuples(st.integers(2, 5), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 2))
)


@pytest.fixture
def labels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.integers(0, 4, size=(60, 5))
    wrong = rng.random(truth.shape) < 0.3
    return np.where(wrong, rng.integers(-1, 4, size=truth.shape), truth), truth


def test_is_scikit_learns_accuracy(labels):
    prediction, truth = labels
    wanted = [accuracy_score(*rows) for rows in zip(truth, prediction, strict=True)]
    values = metric("attribute_accuracy").per_stimulus(prediction, truth)
    np.testing.assert_allclose(values, wanted, rtol=1e-15)
    assert values.mean() == pytest.approx(accuracy_score(truth.ravel(), prediction.ravel()), rel=1e-12)
    everything = metric("all_attributes").per_stimulus(prediction, truth)
    np.testing.assert_array_equal(everything, (prediction == truth).all(axis=1))
    assert 0 < everything.mean() < values.mean() < 1


def test_what_does_not_apply_is_not_counted_and_what_is_not_named_is_wrong():
    truth = np.array([[1, -1, 2], [1, -1, 2], [0, 1, 2], [-1, -1, -1]])
    prediction = np.array([[1, -1, 2], [1, 5, -1], [-1, -1, -1], [-1, 0, 1]])
    np.testing.assert_array_equal(metric("attribute_accuracy").per_stimulus(prediction, truth), [1, 0.5, 0, np.nan])
    np.testing.assert_array_equal(metric("all_attributes").per_stimulus(prediction, truth), [1, 0, 0, np.nan])


@settings(max_examples=40, deadline=None)
@given(tables)
def test_chance_is_every_deal_that_leaves_none_its_own(truth):
    deals = [list(deal) for deal in permutations(range(len(truth))) if all(at != to for at, to in enumerate(deal))]
    for name in NAMES:
        wanted = np.mean([metric(name).per_stimulus(truth[deal], truth) for deal in deals])
        assert metric(name).chance_of(truth) == pytest.approx(wanted, abs=1e-12)


def test_chance_is_the_probability_that_two_share_a_word(labels):
    truth = labels[1]
    counts = [np.bincount(column) for column in truth.T]
    shared = np.mean([(one * (one - 1)).sum() / (60 * 59) for one in counts])
    assert metric("attribute_accuracy").chance_of(truth) == pytest.approx(shared, rel=1e-12)
    alike = np.mean([(truth[i] == truth[j]).all() for i in range(60) for j in range(60) if i != j])
    assert metric("all_attributes").chance_of(truth) == pytest.approx(alike, rel=1e-12)
    assert metric("all_attributes").chance_of(np.arange(8).reshape(8, 1)) == 0.0


def test_chance_counts_what_does_not_apply_as_the_metric_does():
    truth = np.array([[0, 0], [0, -1], [-1, -1]])  # dealt to the first: half right, and nothing
    assert metric("attribute_accuracy").chance_of(truth) == pytest.approx(np.mean([0.5, 0, 1, 0]))
    assert np.isnan(metric("attribute_accuracy").chance_of(np.full((3, 2), -1)))
    assert np.isnan(metric("attribute_accuracy").chance_of(np.zeros((1, 2), np.int64)))
    assert metric("attribute_accuracy").chance_of(None) is None


@pytest.mark.parametrize("name", NAMES)
def test_truths_dealt_at_random_land_on_chance(rng: np.random.Generator, name: str):
    truth = rng.integers(0, 3, size=(400, 3))
    values = metric(name).per_stimulus(np.roll(truth, 17, axis=0), truth)
    low, high = mean_interval(values)
    assert low < metric(name).chance_of(truth) < high


def test_of_many_others_an_even_choice_is_dealt(labels):
    truth = labels[1]
    function = metric("attribute_accuracy").function
    assert chance_of_others(function, max_others=59)(truth) == metric("attribute_accuracy").chance_of(truth)
    few = np.mean([function(np.roll(truth, step, axis=0), truth, None) for step in (1, 20, 40)])
    assert chance_of_others(function, max_others=3)(truth) == pytest.approx(few)


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_that_is_not_finite_has_no_value(labels, name: str):
    prediction = labels[1].astype(float)
    prediction[3, 1] = np.nan
    values = metric(name).per_stimulus(prediction, labels[1])
    assert np.isnan(values[3])
    np.testing.assert_array_equal(np.delete(values, 3), 1.0)
