"""Intervals and permutation tests against scipy's and brute force, and over subjects and blocks as well."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from core.seeds import rng_for
from evaluation.statistics.intervals import (
    SHARE,
    adjusted_by_orders,
    half_width,
    holm,
    mean_interval,
    paired_interval,
    paired_p,
    reordered_p,
)


@pytest.mark.parametrize("n", [5, 9, 13])
def test_the_exact_test_is_scipys(n: int) -> None:
    rng = rng_for(0, "exact", n)
    a, b = rng.normal(0.4, 1, n), rng.normal(size=n)
    wanted = stats.permutation_test(
        (a - b,), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=np.inf
    )
    assert paired_p(a, b, seed=0) == pytest.approx(wanted.pvalue, abs=1e-12)
    assert paired_p(b, a, seed=0) == paired_p(a, b, seed=0), "two-sided"


def test_the_drawn_test_is_near_scipys() -> None:
    rng = rng_for(0, "drawn")
    a, b = rng.normal(0.25, 1, 60), rng.normal(size=60)
    wanted = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        alternative="two-sided", n_resamples=20_000, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert paired_p(a, b, seed=0) == pytest.approx(wanted.pvalue, abs=0.01)
    assert paired_p(a, b, seed=0) == paired_p(a, b, seed=0)


def test_signs_of_a_block_flip_together() -> None:
    rng = rng_for(0, "blocks")
    a, b = rng.normal(0.5, 1, 11), rng.normal(size=11)
    blocks = np.array([3, 3, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    flips = [np.array(signs)[blocks] for signs in itertools.product([1, -1], repeat=4)]
    sums = np.array([(signs * (a - b)).sum() for signs in flips])
    wanted = (np.abs(sums) >= abs(sums[0]) - 1e-12).mean()
    assert paired_p(a, b, seed=0, blocks=blocks) == pytest.approx(wanted)
    assert paired_p(a + 9, b, seed=0, blocks=blocks) == pytest.approx(2 / 2**4), "four blocks show no more"
    assert np.isnan(paired_p(a, b, seed=0, blocks=np.zeros(11, np.int64)))
    assert paired_p(a, b, seed=0, blocks=np.arange(11)) == paired_p(a, b, seed=0)


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


def test_the_interval_is_students() -> None:
    values = rng_for(0, "student").gamma(2, size=12)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(mean_interval(values), wanted, rtol=1e-12)
    assert mean_interval(values) == mean_interval(values[None]), "one subject, whatever the shape"


def test_large_samples_have_the_interval_of_a_bootstrap() -> None:
    values = rng_for(0, "bootstrap").gamma(2, size=300)
    wanted = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(0)).confidence_interval
    np.testing.assert_allclose(mean_interval(values), wanted, atol=0.02)


def test_bounded_means_stay_inside_and_reach_away_from_the_end() -> None:
    values = np.array([1.0] * 9 + [0.5])
    low, high = mean_interval(values, span=SHARE)
    assert low < 0.95 - 0.9 * (high - 0.95) < 0.95 < high < 1
    # The delta method on the logit by hand: .95 ± t(9) .05 / (.95 .05)
    reach = stats.t.ppf(0.975, 9) * 0.05 / (0.95 * 0.05)
    np.testing.assert_allclose(np.log([low / (1 - low), high / (1 - high)]), np.log(19) + np.array([-reach, reach]))
    r = np.array([0.2, 0.3, 0.25, 0.35])
    fisher = np.arctanh(r.mean()) + np.array([-1, 1]) * stats.t.ppf(0.975, 3) * r.std(ddof=1) / 2 / (1 - 0.275**2)
    np.testing.assert_allclose(mean_interval(r, span=(-1.0, 1.0)), np.tanh(fisher), rtol=1e-9)
    assert mean_interval(np.array([0.9, 0.1, 1.0]), span=(-np.inf, 1.0))[1] == 1.0


@pytest.mark.parametrize("n", [5, 10, 48])
def test_where_all_are_right_the_bound_is_the_exact_binomial_one(n: int) -> None:
    wanted = stats.binomtest(n, n, alternative="greater").proportion_ci(0.95).low
    low, high = mean_interval(np.ones(n), span=SHARE)
    assert (low, high) == (pytest.approx(wanted), 1.0)
    assert mean_interval(np.zeros(n), span=SHARE) == (0.0, pytest.approx(1 - wanted))
    assert mean_interval(np.ones((3, n)), span=SHARE)[0] == pytest.approx(wanted), "subjects saw the same n"
    blocks = np.arange(n) // 2
    assert mean_interval(np.ones(n), span=SHARE, blocks=blocks)[0] == pytest.approx(0.05 ** (1 / (blocks.max() + 1)))
    assert mean_interval(np.full(n, 0.5), span=SHARE) == (0.5, 0.5)


def test_a_value_that_is_missing_or_a_single_stimulus_has_no_interval() -> None:
    for values in (np.empty(0), np.array([1.0, np.nan, 2.0]), np.ones(1), np.array([[1.0, 2.0], [np.nan, 2.0]])):
        assert np.isnan(mean_interval(values)).all()
    assert np.isnan(mean_interval(np.arange(4.0), blocks=np.zeros(4, np.int64))).all()


def test_blocks_count_by_their_means() -> None:
    values = rng_for(0, "error").normal(size=24)
    blocks = np.repeat(np.arange(6), 4)
    low, high = stats.ttest_1samp(values.reshape(6, 4).mean(axis=1), 0).confidence_interval(0.95)
    assert mean_interval(values, blocks=blocks) == pytest.approx((low, high))
    mixed = rng_for(0, "order").permutation(24)
    assert mean_interval(values[mixed], blocks=blocks[mixed]) == pytest.approx((low, high))
    uneven = np.repeat(np.arange(3), [2, 10, 12])
    sums = [np.sum(values[uneven == block] - values.mean()) for block in range(3)]
    wanted = stats.t.ppf(0.975, 2) * np.sqrt(3 / 2 * np.square(sums).sum()) / 24
    assert half_width(values, blocks=uneven) == pytest.approx(wanted)


@pytest.mark.parametrize(("subjects", "apart"), [(3, 0.1), (3, 0.4), (3, 2.0), (10, 0.3)])
def test_intervals_over_subjects_and_stimuli_hold_the_mean_of_both(subjects: int, apart: float) -> None:
    rng = rng_for(0, "crossed", subjects, str(apart))
    held = 0
    for _ in range(600):
        noise = 0.7 * rng.normal(size=(subjects, 30))
        low, high = mean_interval(apart * rng.normal(size=(subjects, 1)) + rng.normal(size=(1, 30)) + noise)
        held += low <= 0 <= high
    assert 0.91 <= held / 600 <= 0.985


def test_few_subjects_who_differ_have_a_wide_interval() -> None:
    rng = rng_for(0, "freedom")
    noise, stimuli = 0.01 * rng.normal(size=(3, 60)), rng.normal(size=60)
    differ = half_width(np.array([[0.2], [0.5], [0.8]]) + noise)
    assert differ == pytest.approx(stats.t.ppf(0.975, 2) * 0.3 / np.sqrt(3), rel=0.05)
    assert half_width(stimuli + noise) == pytest.approx(half_width(stimuli), rel=0.02), "subjects alike"


def test_paired_rows_at_their_end_show_little_of_a_difference() -> None:
    ones, halves = np.ones(5), np.full(5, 0.5)
    assert paired_interval(ones, halves, span=SHARE) == pytest.approx((0.5, 0.05**0.2 - 0.5, 0.5))
    assert paired_interval(ones, ones, span=SHARE) == pytest.approx((0.0, 0.05**0.2 - 1, 1 - 0.05**0.2))
    assert paired_interval(halves, halves, span=SHARE) == (0.0, 0.0, 0.0)


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
    assert (found >= stats.false_discovery_control(values) - 1e-9).all(), "it is stricter than the false discovery rate"


def test_tests_that_share_their_orders_are_adjusted_without_a_factor(rng: np.random.Generator) -> None:
    """Fifty copies of one test are one test; a strong effect among them keeps the least p that the orders allow."""
    null = rng.normal(size=59)
    copies = {f"m{k}": null * (k + 1) for k in range(50)}
    observed = {name: 1.4 * (k + 1) for k, name in enumerate(copies)}
    once = reordered_p(1.4, null)
    assert adjusted_by_orders(observed, copies) == pytest.approx(dict.fromkeys(copies, once))
    nulls = {f"m{k}": rng.normal(size=59) for k in range(50)}
    found = adjusted_by_orders({name: 9.0 if name == "m7" else 0.0 for name in nulls}, nulls)
    assert found["m7"] == pytest.approx(1 / 60)
    assert min(p for name, p in found.items() if name != "m7") > 0.5
    assert np.isnan(adjusted_by_orders({"x": np.nan}, {"x": null})["x"])
    assert adjusted_by_orders({"x": 0.5}, {"x": np.full(9, 0.5)}) == {"x": 1.0}


def test_any_false_positive_is_as_rare_as_stated(rng: np.random.Generator) -> None:
    """Twenty metrics that go together in part, of which none knows anything: one or more below .05 in 5 % of runs."""
    mixed = rng.normal(size=(20, 20))
    found = []
    for _ in range(400):
        scores = rng.normal(size=(100, 20)) @ mixed
        names = [f"m{k}" for k in range(20)]
        observed, nulls = zip(names, scores[-1], strict=True), zip(names, scores[:-1].T, strict=True)
        adjusted = adjusted_by_orders(dict(observed), dict(nulls))
        found.append(min(adjusted.values()) <= 0.05)
    assert 0.02 <= np.mean(found) <= 0.08
