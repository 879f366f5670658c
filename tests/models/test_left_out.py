"""Folds of rows that are ordered in time: blocks and their neighbours, against fits that were made anew."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from core.times import HRF_SPAN_S, Times
from models.decoders.rows import LeftOut, deal_folds, leave_out, not_near, split_stimuli
from models.regressors.penalty import left_out_errors, left_out_errors_per_target
from models.regressors.ridge import fit_ridge, left_out_predictions

from .test_ridge import problem, spectrum_of, unit_of

ROWS, STEP_S = 60, 4.0
STIMULI = [f"s{row:02d}" for row in range(ROWS)]


@pytest.fixture
def times() -> Times:
    """Two runs of 30 clips, one every 4 s."""
    return Times.of(["run-1"] * 30 + ["run-2"] * 30, np.tile(np.arange(30) * STEP_S, 2).tolist())


def refitted(x: np.ndarray, y: np.ndarray, left_out: LeftOut, penalty: float) -> np.ndarray:
    """Predictions (row, target) of each label's rows, by a fit without these and without those beside them."""
    predicted, labels = np.empty_like(y), np.array(left_out.labels)
    for label in set(left_out.labels):
        rows = labels == label
        train = ~rows
        train[left_out.beside.get(label, [])] = False
        predicted[rows] = SklearnRidge(alpha=penalty).fit(x[train], y[train]).predict(x[rows])
    return predicted


def test_blocks_and_what_is_beside_them_are_left_out_exactly(times: Times) -> None:
    x, y, _ = problem(3, ROWS, 1, 25, 4)
    left_out = leave_out(STIMULI, times)
    assert isinstance(left_out, LeftOut)
    assert len(set(left_out)) >= 4
    for label in set(left_out):
        rows = np.array(left_out.labels) == label
        beside = np.zeros(ROWS, dtype=bool)
        beside[left_out.beside[label]] = True
        assert not (beside & rows).any()
        rest = ~rows & ~beside
        assert not times.take(rest).near(times.take(rows), HRF_SPAN_S).any(), "no neighbour is trained on"
        assert times.take(beside).near(times.take(rows), HRF_SPAN_S).all(), "and nothing else is left out"
    penalties = [0.3, 30.0]
    expected = [((refitted(x, y, left_out, own) - y) ** 2).sum(axis=0) for own in penalties]
    spectrum, rotated = spectrum_of(x, y)
    each = left_out_errors_per_target(spectrum, rotated, left_out, penalties)
    np.testing.assert_allclose(each, expected, rtol=1e-8)
    whole = left_out_errors(spectrum, rotated @ rotated.T, left_out, penalties)
    np.testing.assert_allclose(whole, np.sum(expected, axis=1), rtol=1e-8)


def test_predictions_of_left_out_blocks_are_those_of_fits_without_them(times: Times) -> None:
    x, y, _ = problem(4, ROWS, 1, 25, 3)
    left_out = leave_out(STIMULI, times)
    assert isinstance(left_out, LeftOut)
    fit = fit_ridge(x, y, left_out, [0.1, 1.0])
    predicted = left_out_predictions(x, y, left_out, fit)
    expected = refitted(x, y, left_out, float(fit.alphas[0]) * unit_of(x))
    np.testing.assert_allclose(predicted, expected, atol=1e-3)


def test_rows_without_times_are_left_out_by_stimulus() -> None:
    assert leave_out(STIMULI, None) is STIMULI
    assert leave_out(STIMULI, Times.of(["run-1"] * ROWS, [5.0] * ROWS)) is STIMULI, "one moment is no order"


def test_validation_holds_out_whole_blocks_and_trains_on_nothing_near(times: Times) -> None:
    for seed in range(5):
        held = split_stimuli(STIMULI, 0.15, np.random.default_rng(seed), times)
        assert 4 <= held.sum() <= 15
        kept = not_near(held, times)
        assert not (kept & held).any()
        assert not times.take(kept).near(times.take(held), HRF_SPAN_S).any()
        edges = np.flatnonzero(np.diff(held[:30].astype(int)))
        assert len(edges) <= 4, "few blocks, not many single clips"
    alone = split_stimuli(STIMULI, 0.15, np.random.default_rng(0))
    assert alone.sum() == 9
    assert np.array_equal(not_near(alone, None), ~alone)


def test_folds_are_dealt_by_blocks(times: Times) -> None:
    folds = deal_folds(ROWS, 5, np.random.default_rng(0), times)
    assert sorted(np.unique(folds)) == [0, 1, 2, 3, 4]
    assert (np.bincount(folds) >= 6).all()
    assert (np.diff(folds[:30]) != 0).sum() < 10, "neighbours lie in one fold"
    plain = deal_folds(ROWS, 5, np.random.default_rng(0))
    assert (np.bincount(plain) == 12).all()
