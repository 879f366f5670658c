"""Order in time: blocks that cross no segment, lengths that fit the autocorrelation, shifts that keep it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from core.seeds import rng_for
from evaluation.statistics.order import TimeOrder, autocorrelation, block_length, shifts


def one_film(n: int) -> TimeOrder:
    return TimeOrder(np.full(n, "film"), np.arange(n) * 3.0)


def series(rng: np.random.Generator, rho: float, *shape: int) -> np.ndarray:
    """Return stationary AR(1) series of variance 1 along the last axis."""
    noise = rng.normal(size=(*shape[:-1], shape[-1] + 200))
    return lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise, axis=-1)[..., 200:]


def test_blocks_are_neighbours_in_time_and_cross_no_segment():
    segment = np.array(["b", "a", "b", "a", "b", "b", "b"])
    order = TimeOrder(segment, np.array([30.0, 1, 10, 0, 20, 50, 40]))
    assert [rows.tolist() for rows in order.rows()] == [[2, 4, 0, 6, 5], [3, 1]]
    assert order.blocks(2).tolist() == [0, 2, 0, 2, 0, 1, 1]
    assert order.blocks(3).tolist() == [0, 1, 0, 1, 0, 0, 0]
    assert sorted(order.blocks(1)) == list(range(7))
    kept = order.only(segment == "b")
    assert [rows.tolist() for rows in kept.rows()] == [[1, 2, 0, 4, 3]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 2**31))
def test_blocks_are_as_long_as_asked_or_whole_segments(segments: list[int], length: int, seed: int):
    labels = np.array([str(name) for name in segments])
    order = TimeOrder(labels, np.random.default_rng(seed).permutation(len(labels)).astype(float))
    blocks = order.blocks(length)
    assert sorted(set(blocks.tolist())) == list(range(blocks.max() + 1))
    for rows in order.rows():
        assert (np.diff(blocks[rows]) >= 0).all(), "in time"
        sizes = np.bincount(blocks[rows])
        sizes = sizes[sizes > 0]
        assert sizes.min() >= min(length, len(rows))
        assert np.ptp(sizes) <= 1
    assert all(len(set(labels[blocks == block])) == 1 for block in set(blocks.tolist()))


def test_what_is_no_order_is_refused():
    with pytest.raises(ValueError, match=r"\(3,\) segments and \(2,\) starts"):
        TimeOrder(np.array(["a"] * 3), np.zeros(2))
    with pytest.raises(ValueError, match="stimulus 1 starts at nan"):
        TimeOrder(np.array(["a"] * 2), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="blocks of 0 stimuli"):
        one_film(3).blocks(0)
    with pytest.raises(ValueError, match="4 values and an order of 3"):
        block_length(np.zeros(4), one_film(3))


def test_the_autocorrelation_is_numpys_within_segments(rng: np.random.Generator):
    x = rng.normal(size=40)
    d = x - x.mean()
    whole = np.correlate(d, d, "full")[39:]
    np.testing.assert_allclose(autocorrelation(x, one_film(40), 10), whole[:11] / whole[0], atol=1e-12)
    halves = TimeOrder(np.repeat(["a", "b"], 20), np.arange(40.0))
    parts = sum(np.correlate(part, part, "full")[19:] for part in (d[:20], d[20:]))
    np.testing.assert_allclose(autocorrelation(x, halves, 10), parts[:11] / parts[0], atol=1e-12)
    both = autocorrelation(np.stack([x, x[::-1]]), one_film(40), 5)
    np.testing.assert_allclose(both, autocorrelation(x, one_film(40), 5), atol=1e-12)
    np.testing.assert_array_equal(autocorrelation(np.ones(9), one_film(9), 3), [1, 0, 0, 0])


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_the_length_is_near_the_one_that_estimates_a_means_variance_best(rho: float):
    """The best length by simulation: the one whose block means' variance is nearest the true one over many series."""
    n, rng = 240, rng_for(0, "lengths", str(rho))
    x = series(rng, rho, 1500, n)
    true = x.mean(axis=1).var()
    errors = {}
    for length in range(1, 61):
        blocks = x[:, : n // length * length].reshape(len(x), -1, length).mean(axis=2)
        estimates = blocks.var(axis=1, ddof=1) / blocks.shape[1]
        errors[length] = np.square(estimates / true - 1).mean()
    chosen = [block_length(one, one_film(n)) for one in x[:150]]
    assert errors[int(np.median(chosen))] < 1.25 * min(errors.values())
    assert np.median([block_length(one, one_film(n)) for one in series(rng, 0.0, 150, n)]) <= 3


def test_the_length_is_bounded_by_what_there_is(rng: np.random.Generator):
    slow = np.repeat([0.0, 1.0], 20)
    assert 5 <= block_length(slow, one_film(40)) <= 40
    assert block_length(np.ones(40), one_film(40)) == 1
    assert block_length(rng.normal(size=40), TimeOrder(np.arange(40).astype(str), np.zeros(40))) == 1
    levels = np.repeat(rng.normal(size=10), 6) + 0.01 * rng.normal(size=60)
    runs = TimeOrder(np.repeat(np.arange(10), 6).astype(str), np.tile(np.arange(6.0), 10))
    assert block_length(levels, runs) >= 4, "runs of other levels are blocks of their own"
    missing = slow.copy()
    missing[3] = np.nan
    assert block_length(missing, one_film(40)) >= 5


def test_shifts_keep_neighbours_and_stay_within_segments():
    order = TimeOrder(np.repeat(["a", "b"], [30, 20]), np.arange(50.0))
    for shift in shifts(order, 25, 0, length=4):
        assert sorted(shift) == list(range(50))
        for rows in (np.arange(30), np.arange(30, 50)):
            steps = (shift[rows] - rows) % len(rows)
            assert set(shift[rows]) == set(rows)
            assert len(set(steps)) == 1
            assert 4 <= steps[0] <= len(rows) - 4
    assert [s.tolist() for s in shifts(order, 5, 3)] == [s.tolist() for s in shifts(order, 5, 3)]
    assert [s.tolist() for s in shifts(order, 5, 3)] != [s.tolist() for s in shifts(order, 5, 4)]


def test_all_shifts_of_one_film_where_there_are_fewer():
    found = shifts(one_film(12), 100, 0, length=2)
    assert sorted(int(shift[0]) for shift in found) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    first = np.mean([shifts(one_film(60), 3, seed)[0][0] for seed in range(200)])
    assert 25 < first < 35, "in random order: the first ones may be used alone"
    assert len(shifts(one_film(40), 7, 0, length=2)) == 7
    assert len(shifts(one_film(12), 100, 0, length=50)) == 7, "half of all, where the block length is longer than that"


def test_short_segments_are_shifted_together():
    order = TimeOrder(np.arange(12).astype(str), np.zeros(12))
    found = shifts(order, 100, 0, length=1)
    assert len(found) == 11
    assert all((shift != np.arange(12)).all() for shift in found)
    assert [shift.tolist() for shift in shifts(TimeOrder(np.array(["a"]), np.zeros(1)), 5, 0)] == [[0]]
