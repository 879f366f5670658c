"""N-way identification by classes against drawing them by hand, and what it owes to chance."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import hypergeom

from core.seeds import rng_for
from evaluation.metrics import Metric, metric, metric_names
from evaluation.metrics.classes import published, top_of
from evaluation.statistics.intervals import mean_interval

NAMES = ("published_2_way", "published_50_way", "top_1_of_2", "top_1_of_50", "top_5_of_50")
small = st.tuples(arrays(np.int8, 6, elements=st.integers(0, 2)), st.permutations(range(6)))


def metrics() -> list[Metric]:
    return [metric(name) for name in NAMES]


def by_hand(scores: np.ndarray, own: list[int], ways: int, first: int) -> float:
    """Ask every draw in every order that its ties allow."""
    shares = []
    for drawn in combinations([one for one in range(len(scores)) if one not in own], ways - 1):
        allowed = [one for one in permutations([*own, *drawn]) if (np.diff(scores[list(one)]) <= 0).all()]
        shares.append(np.mean([min(map(one.index, own)) < first for one in allowed]))
    return float(np.mean(shares))


def drawn_trials(
    scores: np.ndarray, own: list[int], ways: int, first: int, rng: np.random.Generator, trials: int
) -> float:
    """Simulate the published trials: one draw for all own classes, of which one success is enough."""
    others = np.setdiff1d(np.arange(len(scores)), own)
    hits = 0
    for _ in range(trials):
        rivals = scores[rng.choice(others, ways - 1, replace=False)]
        hits += any((rivals > scores[one]).sum() < first for one in own)
    return hits / trials


@settings(max_examples=60, deadline=None)
@given(small, st.sampled_from([(2, 1), (3, 1), (3, 2), (4, 2)]))
def test_equals_every_draw_ties_included(drawn, asked):
    scores, order = drawn
    ways, first = asked
    truth = -np.argsort(order).astype(float)  # the classes by rank
    found = top_of(first, ways)(scores[None].astype(float), truth[None], None)
    assert found[0] == pytest.approx(by_hand(scores, [order[0]], ways, first), abs=1e-12)
    if first == 1:
        found = published(ways)(scores[None].astype(float), truth[None], None)
        assert found[0] == pytest.approx(by_hand(scores, list(order[:3]), ways, 1), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "ways", "first", "classes"),
    [
        ("published_2_way", 2, 1, 3),
        ("published_50_way", 50, 1, 3),
        ("top_1_of_2", 2, 1, 1),
        ("top_1_of_50", 50, 1, 1),
        ("top_5_of_50", 50, 5, 1),
    ],
)
def test_equals_the_published_trials_in_expectation(name: str, ways: int, first: int, classes: int):
    rng = rng_for(0, "trials", name)
    truth = rng.normal(size=(4, 400))
    prediction = 0.7 * truth + rng.normal(size=truth.shape)
    values = metric(name).per_stimulus(prediction, truth)
    trials = 4000
    for value, scores, row in zip(values, prediction, truth, strict=True):
        own = list(np.argsort(row)[-classes:])
        assert value == pytest.approx(
            drawn_trials(scores, own, ways, first, rng, trials), abs=4 * 0.5 / np.sqrt(trials)
        )
    assert ((values > 0) & (values < 1)).any()


def test_is_hypergeometric_over_the_joint_classes_of_the_small_world():
    rng = rng_for(0, "joint")
    truth = rng.normal(size=(6, 13824)).astype(np.float32)
    prediction = truth + rng.normal(size=truth.shape).astype(np.float32)
    own = truth.argmax(axis=1)
    above = (prediction > prediction[np.arange(6), own][:, None]).sum(axis=1)
    for first in (1, 5):
        wanted = hypergeom.cdf(first - 1, 13823, above, 49)
        np.testing.assert_allclose(metric(f"top_{first}_of_50").per_stimulus(prediction, truth), wanted, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_noise_lands_on_chance(name: str):
    truth, prediction = rng_for(0, "null").normal(size=(2, 600, 120))
    low, high = mean_interval(metric(name).per_stimulus(prediction, truth))
    assert low < metric(name).chance < high


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [52, 1000])
def test_constant_scores_earn_chance_exactly(name: str, count: int):
    truth = rng_for(0, "constant").normal(size=(3, count))
    values = metric(name).per_stimulus(np.full_like(truth, -7.0), truth)
    np.testing.assert_allclose(values, metric(name).chance, rtol=1e-12)


def test_chance_levels_are_those_of_the_field():
    wanted = (0.75, 3 / 52, 0.5, 0.02, 0.1)
    assert [one.chance for one in metrics()] == pytest.approx(wanted)
    assert [one.min_classes for one in metrics()] == [4, 52, 2, 50, 50]
    assert all(("MinD-Video" in one.protocol) == one.name.startswith("published") for one in metrics())


def test_a_favoured_class_lifts_every_row():
    """The same scores for all stimuli, where one class is what most of them show: above chance without any sight."""
    truth = np.zeros((10, 100))
    truth[:8, 3], truth[8:, 7] = 1.0, 1.0
    blind = np.tile(np.arange(100.0) == 3, (10, 1)).astype(float)
    assert metric("top_1_of_50").per_stimulus(blind, truth).mean() > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_truth_is_identified_from_itself(name: str):
    truth = rng_for(0, "truth").normal(size=(5, 4, 60))
    np.testing.assert_array_equal(metric(name).per_stimulus(truth, truth), 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_asked_one_by_one_and_averaged(name: str):
    rng = rng_for(0, "frames")
    truth = rng.normal(size=(5, 4, 80))
    prediction = truth + rng.normal(size=truth.shape)
    by_frame = [metric(name).per_stimulus(prediction[:, frame], truth[:, frame]) for frame in range(4)]
    np.testing.assert_allclose(metric(name).per_stimulus(prediction, truth), np.mean(by_frame, axis=0), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_monotone_change_of_scores_changes_nothing(name: str):
    rng = rng_for(0, "monotone")
    truth = rng.normal(size=(5, 80))
    prediction = truth + rng.normal(size=truth.shape)
    of_logits = metric(name).per_stimulus(prediction, truth)
    np.testing.assert_array_equal(metric(name).per_stimulus(np.exp(prediction) / 9, 3 * truth), of_logits)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("broken", [np.nan, -np.inf])
def test_a_prediction_that_is_not_finite_has_no_value_and_spoils_no_other(name: str, broken: float):
    truth = rng_for(0, "nan").normal(size=(4, 3, 60))
    prediction = truth.copy()
    prediction[2, 1, 5] = broken
    values = metric(name).per_stimulus(prediction, truth)
    np.testing.assert_array_equal(np.isnan(values), [False, False, True, False])
    np.testing.assert_array_equal(np.delete(values, 2), 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_fewer_classes_than_can_be_drawn_are_refused(name: str):
    fewest = metric(name).min_classes
    at_least = rng_for(0, "few").normal(size=(2, fewest))
    assert np.isfinite(metric(name).per_stimulus(at_least, at_least)).all()
    with pytest.raises(ValueError, match=f"with {fewest} classes or more"):
        metric(name).per_stimulus(at_least[:, 1:], at_least[:, 1:])
    assert not metric(name).applies_to((2, fewest - 1))


def test_every_metric_of_classes_is_tested_here():
    assert {name for name in metric_names() if metric(name).view == "classes"} == set(NAMES)
