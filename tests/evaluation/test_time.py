"""Test trials among training trials: counted, and told apart from orders that are random."""

from collections.abc import Mapping

import numpy as np
import pytest

from core.times import Times
from evaluation.diagnoses.time import SHARED, Neighbours, Timing, alike, near_counts, reach_s, time_report

ORDERED = Neighbours(0.4, 0.001)
RANDOM = Neighbours(-0.01, 0.6)


def ar1(rng: np.random.Generator, count: int, width: int, rho: float) -> np.ndarray:
    rows = rng.normal(size=(count, width))
    for row in range(1, count):
        rows[row] = rho * rows[row - 1] + np.sqrt(1 - rho**2) * rows[row]
    return rows


def every(step_s: float, rows: np.ndarray | list[int], run: str = "run-1") -> Times:
    return Times.of([run] * len(rows), [step_s * row for row in rows])


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_stimuli_that_follow_each_other_are_found(rng: np.random.Generator, rho: float) -> None:
    found = alike(ar1(rng, 150, 20, rho), np.arange(150), every(3.0, np.arange(150)))
    assert found is not None
    # Neighbours within 12 s are one to four clips apart.
    assert found.excess == pytest.approx(np.mean([rho**lag for lag in range(1, 5)]), abs=0.12)
    assert found.ordered


def test_random_orders_are_not(rng: np.random.Generator) -> None:
    found = [
        alike(
            rng.normal(size=(60, 12)),
            np.concatenate([rng.permutation(60) for _ in range(3)]),
            every(3.0, [*range(180)]),
        )
        for _ in range(20)
    ]
    assert sum(one is not None and one.ordered for one in found) == 0
    assert np.mean([one.p < 0.05 for one in found if one is not None]) <= 0.2


def test_neighbours_that_are_less_alike_than_others_are_ordered_as_well(rng: np.random.Generator) -> None:
    """Two classes that take turns: a neighbour is of the other class."""
    values = np.array([1.0, -1.0])[np.arange(80) % 2][:, None] * np.ones(5) + 0.5 * rng.normal(size=(80, 5))
    found = alike(values, np.arange(80), every(10.0, [*range(80)]))
    assert found is not None
    assert found.excess < -0.3
    assert found.ordered


def test_no_neighbours_are_nothing_to_tell(rng: np.random.Generator) -> None:
    assert alike(rng.normal(size=(5, 3)), np.arange(5), every(60.0, [*range(5)])) is None


def timings(test: Times, train: Times) -> tuple[Mapping[str, Timing], Mapping[str, Timing]]:
    return {"sub-01": Timing(test)}, {"sub-01": Timing(train)}


def test_only_many_neighbours_in_an_order_that_is_not_random_are_dense() -> None:
    among = timings(every(4.0, [*range(0, 60, 3)]), every(4.0, [k for k in range(60) if k % 3]))
    apart = timings(every(4.0, [*range(50)], "run-2"), every(4.0, [*range(50)]))
    after = timings(every(4.0, [*range(100, 160)]), every(4.0, [*range(100)]))
    dense = time_report(*among, [ORDERED], allowed=False)
    assert (dense["count"], dense["of"], dense["dense"], dense["allowed"]) == (20, 20, True, False)
    assert "cannot be told from autocorrelation" in dense["note"]
    assert time_report(*among, [ORDERED], allowed=True)["allowed"]
    shuffled = time_report(*among, [RANDOM], allowed=True)
    assert (shuffled["dense"], shuffled["allowed"]) == (False, False)
    assert "the order of stimuli is random" in shuffled["note"]
    assert time_report(*among, [RANDOM, ORDERED], allowed=False)["dense"], "one ordered target is enough"
    assert time_report(*apart, [], allowed=False)["count"] == 0
    later = time_report(*after, [ORDERED], allowed=False, purged=3)
    assert (later["count"], later["dense"]) == (3, False), "the edge of one later block is not a tenth of it"
    assert later["note"].startswith("3 of 60 test trials lie within 12 s")
    assert "3 training trials were purged" in later["note"]


def test_places_in_a_movie_count_where_runs_do_not_tell() -> None:
    movie = Timing(None, every(30.0, [*range(10)], "ep1"))
    rest = Timing(None, Times.of(["ep1"] * 9, [30.0 * k + 5 for k in range(9)]))
    assert near_counts({"a": movie}, {"a": rest}) == {"a": (9, 10)}
    unknown = time_report({"a": Timing(None)}, {"a": Timing(None)}, [], allowed=False)
    assert unknown["count"] is None
    assert not unknown["dense"]
    assert "not known" in unknown["note"]


def test_the_reach_is_where_what_brain_and_targets_share_ends(rng: np.random.Generator) -> None:
    found = reach_s(ar1(rng, 500, 30, 0.9), ar1(rng, 500, 30, 0.9), every(4.0, [*range(500)]))
    assert found == pytest.approx(4 * np.log(SHARED) / (2 * np.log(0.9)), abs=16)
    alone = reach_s(ar1(rng, 500, 30, 0.9), rng.normal(size=(500, 30)), every(4.0, [*range(500)]))
    assert alone == 0, "a brain without autocorrelation cannot be decoded by it"


def test_clips_half_a_minute_apart_are_dense_where_autocorrelation_reaches_as_far() -> None:
    slow = timings(every(30.0, [*range(0, 80, 4)]), every(30.0, [k for k in range(80) if k % 4]))
    assert time_report(*slow, [ORDERED], allowed=False)["count"] == 0
    found = time_report(*slow, [ORDERED], allowed=False, reach=60.0)
    assert (found["count"], found["within_s"], found["dense"]) == (20, 60.0, True)
    later = timings(every(30.0, [*range(60, 80)]), every(30.0, [*range(60)]))
    assert not time_report(*later, [ORDERED], allowed=False, reach=60.0)["dense"], "edges of one block are few"
