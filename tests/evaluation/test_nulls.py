"""Where nothing is there nothing is found, and intervals hold what they should: few draws; `test_nulls_full` counts."""

import numpy as np
import pytest

from core.seeds import rng_for
from evaluation.config import EvaluationConfig
from evaluation.statistics.intervals import paired_p, reordered_p
from evaluation.statistics.scores import FEW_BLOCKS, MEAN, RECONSTRUCTION, SHUFFLED, comparisons, summarise
from evaluation.statistics.table import Table

from .nulls import (
    CORRELATION,
    NAMES,
    SPACE,
    TWO_WAY,
    autoregressive,
    coverage,
    exchangeable,
    false_alarms,
    in_time,
    population,
    reports,
)


def test_exchangeable_stimuli_are_seldom_told_from_chance() -> None:
    rng = rng_for(0, "quick", 12)
    found = false_alarms(list(reports(exchangeable(rng, 12) for _ in range(60))))
    assert max(found.values()) <= 0.15  # at 5 %, 9 of 60 have p = .004


def test_a_film_that_the_brain_knows_nothing_of_is_told_from_chance_by_free_permutations_alone() -> None:
    """Independent AR(1) series at rho = .9: dealt at random, the shuffled brain is beaten or loses in half of all."""
    rng = rng_for(0, "quick film")
    pairs = [autoregressive(rng, 60, 0.9) for _ in range(24)]
    free = false_alarms(list(reports(iter(pairs))))
    shifted = false_alarms(list(reports(iter(pairs), in_time(60))))
    assert free[TWO_WAY] > 0.25
    assert max(shifted.values()) <= 0.25
    assert shifted[TWO_WAY] < free[TWO_WAY] / 2


def test_a_film_that_the_brain_knows_is_told_from_its_shifts() -> None:
    rng = rng_for(0, "signal")
    noise, truth = autoregressive(rng, 60, 0.9)
    table = Table({SPACE: truth}, EvaluationConfig(metrics=NAMES), seed=0, order=in_time(60))
    table.add(RECONSTRUCTION, {SPACE: truth + 3 * noise})
    report = table.report()
    assert report["comparisons"][SHUFFLED][TWO_WAY]["p"] == pytest.approx(1 / 60)
    assert report["comparisons"][SHUFFLED][TWO_WAY]["ci95"][0] > 0
    assert report["block_length"] >= 3
    assert "blocks of neighbours in time" in report["intervals"]
    few = report["rows"][RECONSTRUCTION][TWO_WAY]
    assert 60 / few["block_length"] < FEW_BLOCKS
    assert few["chance"] == report["rows"][SHUFFLED][TWO_WAY]["value"] != 0.5


def test_the_share_of_orders_by_hand() -> None:
    assert reordered_p(0.9, np.array([0.5, 0.6, 0.4, 0.5])) == pytest.approx(1 / 5)
    assert reordered_p(0.1, np.array([0.5, 0.6, 0.4, 0.5])) == pytest.approx(1 / 5), "two-sided"
    assert reordered_p(0.5, np.array([0.5, 0.9, 0.1])) == 1.0
    assert np.isnan(reordered_p(0.5, np.empty(0)))
    assert np.isnan(reordered_p(np.nan, np.ones(3)))


def test_an_order_of_other_stimuli_is_refused() -> None:
    with pytest.raises(ValueError, match="4 stimuli and an order in time of 5"):
        Table({SPACE: np.zeros((4, 2))}, EvaluationConfig(metrics=NAMES), seed=0, order=in_time(5))


def test_other_controls_are_tested_by_blocks() -> None:
    """Two levels of a film's halves: free flips call it sure, four blocks cannot."""
    rng = rng_for(0, "halves")
    values = {
        RECONSTRUCTION: {CORRELATION: np.repeat([0.5, 0.1], 20) + 0.01 * rng.normal(size=40)},
        MEAN: {CORRELATION: np.zeros(40)},
    }
    assert comparisons(values, seed=0)[MEAN][CORRELATION]["p"] < 0.001
    found = comparisons(values, seed=0, order=in_time(40))[MEAN][CORRELATION]
    assert found["p"] == pytest.approx(2 / 2**4)
    assert found["block_length"] == 10
    entry, free = (summarise(values, order=order)[RECONSTRUCTION][CORRELATION] for order in (in_time(40), None))
    assert np.ptp(entry["ci95"]) > 2.5 * np.ptp(free["ci95"])


def test_intervals_hold_what_is_true_of_all_stimuli() -> None:
    wanted = population(0.5, 0.0, draws=4)
    for name, share in coverage(12, 60, gain=0.5, wanted=wanted).items():
        assert share >= 0.85, name  # at 95 %, 51 of 60 have p = .003


def test_the_audit_of_blocks_and_flips() -> None:
    """Signs of single stimuli of an AR(1) series flip far too easily; of its blocks, they do not."""
    rng = rng_for(0, "flips")
    order, found = in_time(102), {"free": 0, "blocks": 0}
    for seed in range(60):
        noise, truth = autoregressive(rng, 102, 0.9)
        values = np.einsum("nf,nf->n", noise, truth)
        blocks = order.blocks(20)
        found["free"] += paired_p(values, 0 * values, seed=seed, draws=400) < 0.05
        found["blocks"] += paired_p(values, 0 * values, seed=seed, blocks=blocks, draws=400) < 0.05
    assert found["free"] > 15
    assert found["blocks"] < 10
