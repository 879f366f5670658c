"""When rows happened: what is near, who neighbours whom, and blocks of time, against brute force."""

import numpy as np
import pytest

from core.times import Times, with_spacing


def drawn(rng: np.random.Generator, count: int) -> Times:
    """Draw rows of three runs at whole and half seconds, some of which last, some at no known time."""
    start = np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 200, count) / 2)
    return Times.of([f"run-{k}" for k in rng.integers(0, 3, count)], start, rng.integers(0, 4, count).astype(float))


def gap_s(one: Times, i: int, other: Times, j: int) -> float:
    if one.segment[i] != other.segment[j]:
        return np.inf
    between = (
        other.start_s[j] - one.start_s[i] - one.duration_s[i],
        one.start_s[i] - other.start_s[j] - other.duration_s[j],
    )
    return float(max(between)) if np.isfinite(between).all() else np.inf


@pytest.mark.parametrize("within_s", [0.0, 3.0, 12.5])
def test_near_is_what_brute_force_finds(rng: np.random.Generator, within_s: float) -> None:
    one, other = drawn(rng, 90), drawn(rng, 25)
    expected = [min(gap_s(one, i, other, j) for j in range(25)) <= within_s for i in range(90)]
    assert one.near(other, within_s).tolist() == expected
    assert 0 < sum(expected) < 90


def test_neighbours_are_all_pairs_that_lie_close(rng: np.random.Generator) -> None:
    times = drawn(rng, 60)
    found = {frozenset(pair) for pair in zip(*(rows.tolist() for rows in times.neighbours(4.0)), strict=True)}
    expected = {frozenset((i, j)) for i in range(60) for j in range(i) if gap_s(times, i, times, j) <= 4.0}
    assert found == expected


def test_blocks_lie_within_one_segment_and_last_about_as_long_as_was_asked() -> None:
    times = Times.of(["a"] * 100 + ["b"] * 35, [2.0 * k for k in range(100)] + [2.0 * k for k in range(35)])
    blocks = times.blocks(50.0)
    assert len(np.unique(blocks)) == 4 + 1, "200 s are four blocks, 70 s one"
    assert [int((blocks == block).sum()) for block in range(5)] == [25, 25, 25, 25, 35]
    for block in np.unique(blocks):
        assert len(set(times.segment[blocks == block])) == 1
    assert (np.diff(blocks[:100]) >= 0).all()


def test_rows_at_no_known_time_are_blocks_of_their_own_and_near_nothing() -> None:
    times = Times.of(["a", "a", "a"], [0.0, np.nan, np.nan])
    assert len(set(times.blocks(10.0).tolist())) == 3
    assert times.near(times, 100.0).tolist() == [True, False, False]
    assert not times.known


def test_clips_of_a_movie_last_until_the_next_one_begins() -> None:
    times = with_spacing(Times.of(["a"] * 4 + ["b"], [0, 30, 60, 120, 5]))
    assert times.duration_s.tolist() == [30, 30, 30, 30, 0]
    assert times.near(times.take(np.array([1])), 0.0).tolist() == [True, True, True, False, False]
