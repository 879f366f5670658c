"""Intervals and permutation tests against scipy's, and over subjects as well."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, false_discovery_control, permutation_test

from core.seeds import rng_for
from evaluation.statistics.intervals import bootstrap_interval, holm, paired_interval, paired_p


@pytest.mark.parametrize("n", [5, 9, 13])
def test_the_exact_test_is_scipys(n: int) -> None:
    rng = rng_for(0, "exact", n)
    a, b = rng.normal(0.4, 1, n), rng.normal(size=n)
    wanted = permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        alternative="greater", n_resamples=np.inf,
    )  # fmt: skip
    assert paired_p(a, b, seed=0) == pytest.approx(wanted.pvalue, abs=1e-12)


def test_the_drawn_test_is_near_scipys() -> None:
    rng = rng_for(0, "drawn")
    a, b = rng.normal(0.25, 1, 60), rng.normal(size=60)
    wanted = permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        alternative="greater", n_resamples=20_000, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert paired_p(a, b, seed=0) == pytest.approx(wanted.pvalue, abs=0.01)
    assert paired_p(a, b, seed=0) == paired_p(a, b, seed=0)
    assert paired_p(b, a, seed=0, higher_is_better=False) == pytest.approx(paired_p(a, b, seed=0), abs=0.01)


def test_ties_count_against_and_what_is_missing_has_no_p() -> None:
    same = np.ones(20)
    assert paired_p(same, same, seed=0) == 1
    assert paired_p(same + 1, same, seed=0) == pytest.approx(1 / 10_001, rel=0.5)
    assert np.isnan(paired_p(np.array([1.0, np.nan]), np.zeros(2), seed=0))
    assert np.isnan(paired_p(np.ones(1), np.zeros(1), seed=0))
    with pytest.raises(ValueError, match="3 and 2 values"):
        paired_p(np.ones(3), np.ones(2), seed=0)


def test_p_is_uniform_where_nothing_is_there() -> None:
    rng = rng_for(0, "uniform")
    found = np.array([paired_p(*rng.normal(size=(2, 20)), seed=0, draws=500) for _ in range(400)])
    for level in (0.05, 0.25, 0.5):
        assert (found < level).mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 400))


def test_the_interval_is_near_scipys() -> None:
    values = rng_for(0, "percentile").gamma(2, size=80)
    wanted = bootstrap(
        (values,), np.mean, method="percentile", n_resamples=40_000, rng=np.random.default_rng(0)
    ).confidence_interval  # fmt: skip
    found = bootstrap_interval(values, seed=0, draws=40_000)
    np.testing.assert_allclose(found, (wanted.low, wanted.high), atol=0.01)


def test_a_value_that_is_missing_or_a_single_stimulus_has_no_interval() -> None:
    for values in (np.array([1.0, np.nan, 2.0]), np.ones(1), np.array([[1.0, 2.0], [np.nan, 2.0]])):
        assert np.isnan(bootstrap_interval(values, seed=0)).all()


def test_one_subject_is_as_before_whatever_the_shape() -> None:
    values = rng_for(0, "one").normal(size=30)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values[None], seed=3)
    assert paired_interval(values, values * 0, seed=3) == paired_interval(values[None], values[None] * 0, seed=3)


def test_subjects_and_stimuli_are_drawn_crossed() -> None:
    """The interval's width is that of a plain double loop over drawn subjects and drawn stimuli."""
    rng = rng_for(0, "crossed")
    values = rng.normal(size=(6, 1)) + rng.normal(size=(1, 40)) + 0.5 * rng.normal(size=(6, 40))
    drawn = []
    for _ in range(4000):
        who, what = rng.integers(0, 6, 6), rng.integers(0, 40, 40)
        drawn.append(values[np.ix_(who, what)].mean())
    low, high = bootstrap_interval(values, seed=0, draws=4000)
    np.testing.assert_allclose((low, high), np.quantile(drawn, [0.025, 0.975]), atol=0.08)
    alone = bootstrap_interval(values.mean(axis=0), seed=0)
    assert high - low > 1.5 * (alone[1] - alone[0]), "stimuli alone promise too much about other people"


def test_holm_by_hand() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": float("nan")})
    assert {name: adjusted[name] for name in "dacb"} == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert np.isnan(adjusted["e"])
    assert holm({}) == {}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_the_value_and_bonferroni_and_keeps_the_order(values: list[float]) -> None:
    adjusted = holm({str(index): value for index, value in enumerate(values)})
    found = np.array([adjusted[str(index)] for index in range(len(values))])
    assert (found >= np.array(values) - 1e-12).all()
    assert (found <= np.minimum(1, len(values) * np.array(values)) + 1e-12).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()
    assert (found >= false_discovery_control(values) - 1e-9).all(), "it is stricter than the false discovery rate"
