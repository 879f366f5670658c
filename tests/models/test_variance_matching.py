"""Variance matching and the choice by identification, against fitting anew without each stimulus."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import Ridge as SklearnRidge

from models.decoders.build import load_regressor, save_part
from models.decoders.rows import LeftOut
from models.regressors.identification import identification_errors, mean_direction, two_way
from models.regressors.penalty import Centred
from models.regressors.ridge import Ridge, RidgeFit, _Choice, _fit, fit_ridge, left_out_predictions
from models.regressors.settings import RidgeConfig

from .nonlinear import TrainingRows

UNEQUAL = np.array(["a", "a", "b", "c", "c", "c", "d", "e", "f", "g", "h", "i"])


def problem(seed: int, names: np.ndarray, features: int, values: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of rows, and targets that are the same for the same stimulus."""
    rng = np.random.default_rng(seed)
    codes = np.unique(names, return_inverse=True)[1]
    causes = rng.normal(size=(codes.max() + 1, 4))
    y = causes @ rng.normal(size=(4, values)) + 0.3 * rng.normal(size=(codes.max() + 1, values)) + 5
    x = causes[codes] @ rng.normal(size=(4, features)) + 0.7 * rng.normal(size=(len(names), features))
    return x, y[codes]


def unit_of(x: np.ndarray) -> float:
    return float(((x - x.mean(0)) ** 2).sum() / len(x))


def left_out(x: np.ndarray, y: np.ndarray, names: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of each stimulus by a ridge fitted on all others, and these others' mean targets, (row, value)."""
    predicted, means = np.empty_like(y), np.empty_like(y)
    for name in np.unique(names):
        held = names == name
        predicted[held] = SklearnRidge(alpha=penalty).fit(x[~held], y[~held]).predict(x[held])
        means[held] = y[~held].mean(0)
    return predicted, means


def identified(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Two-way identification, pair by pair."""
    n, won = len(truth), []
    for i in range(n):
        for j in range(n):
            if i != j:
                lead = np.corrcoef(predicted[i], truth[i])[0, 1] - np.corrcoef(predicted[i], truth[j])[0, 1]
                won.append(0.5 if abs(lead) < 1e-9 else float(lead > 0))
    return float(np.mean(won))


@pytest.mark.parametrize("names", [np.array([f"s{i}" for i in range(14)]), UNEQUAL], ids=["single", "repeated"])
@pytest.mark.parametrize("values", [30, 6])
def test_identification_is_that_of_refitting_without_each_stimulus(names: np.ndarray, values: int) -> None:
    x, y = problem(1, names, 20, values)
    centred, offset = Centred.of(x), y.mean(0)
    penalties = [0.01 * unit_of(x), unit_of(x), 30 * unit_of(x)]
    rotated = centred.spectrum.rotate(y, offset, np.float64)
    found = identification_errors(
        centred.spectrum, rotated, list(names), penalties, direction=mean_direction(None, values)
    )
    order = list(dict.fromkeys(names))
    truth = np.array([y[names == name][0] for name in order]) - offset
    for penalty, error in zip(penalties, found, strict=True):
        predicted, means = left_out(x, y, names, penalty)
        averaged = np.array([(predicted - means)[names == name].mean(0) for name in order])
        assert error == pytest.approx(1 - identified(averaged, truth), abs=1e-6)


def test_matched_identification_is_that_of_refitting_too() -> None:
    names = np.array([f"s{i}" for i in range(14)])
    x, y = problem(2, names, 20, 30)
    config = RidgeConfig(alphas=[0.1, 1.0, 10.0], criterion="identification", variance_matching=0.5)
    ridge = Ridge.fit(config, "t", {"a": TrainingRows(x, y, list(names))})
    assert ridge.basis is not None
    for alpha, error in zip([0.1, 1.0, 10.0], ridge.fits["a"].errors, strict=True):
        predicted, means = left_out(x, y, names, alpha * unit_of(x))
        codes = ridge.basis.project(predicted)
        gains = np.sqrt(ridge.basis.project(y).std(0) / codes.std(0))
        moved = ((predicted - means) @ ridge.basis.vectors.T * gains) @ ridge.basis.vectors
        assert error == pytest.approx(1 - identified(moved, y - y.mean(0)), abs=1e-6)


def test_identification_leaves_out_blocks_of_time_with_their_neighbours() -> None:
    names = np.array([f"s{i}" for i in range(24)])
    x, y = problem(9, names, 30, 12)
    labels = np.repeat(["0", "1", "2", "3"], 6)
    beside = {str(b): np.array([r for r in (6 * b - 1, 6 * b + 6) if 0 <= r < 24]) for b in range(4)}
    config = RidgeConfig(alphas=[0.3, 10.0], criterion="identification")
    choice, centred = _Choice.of(config, None), Centred.of(x)
    fit = _fit(centred, y, LeftOut(list(labels), beside), choice, list(names))
    for alpha, error in zip([0.3, 10.0], fit.errors, strict=True):
        moved = np.empty_like(y)
        for block in range(4):
            held = labels == str(block)
            rest = ~held
            rest[beside[str(block)]] = False
            ridge = SklearnRidge(alpha=alpha * unit_of(x)).fit(x[rest], y[rest])
            moved[held] = ridge.predict(x[held]) - y[rest].mean(0)
        assert error == pytest.approx(1 - identified(moved, y - y.mean(0)), abs=1e-6)


@pytest.mark.parametrize("exponent", [0.5, 1.0])
@pytest.mark.parametrize("components", [None, 5])
def test_gains_are_those_of_refitting_without_each_stimulus(exponent: float, components: int | None) -> None:
    names = np.array([f"s{i}" for i in range(16)])
    x, y = problem(3, names, 25, 40)
    rows, fresh = TrainingRows(x, y, list(names)), np.random.default_rng(8).normal(size=(4, 25))
    settings: dict[str, Any] = {"alphas": [1.0], "components": components}
    plain = Ridge.fit(RidgeConfig(**settings), "t", {"a": rows})
    matched = Ridge.fit(RidgeConfig(**settings, variance_matching=exponent), "t", {"a": rows})
    basis = matched.basis
    assert basis is not None
    assert len(basis.vectors) == (15 if components is None else components), "all components by default"
    codes = basis.project(left_out(x, y, names, unit_of(x))[0])
    gains = (basis.project(y).std(0) / codes.std(0)) ** exponent
    expected = basis.expand(basis.project(plain.predict("a", fresh)) * gains)
    assert np.allclose(matched.predict("a", fresh), expected, atol=1e-3)
    assert np.allclose(matched.fits["a"].gains, gains, rtol=1e-3)
    assert matched.state()[0]["variance_matching"]["a"]["median"] == pytest.approx(np.median(gains), rel=1e-3)


def test_unmatched_components_predict_what_plain_ridge_predicts() -> None:
    names = [f"s{i}" for i in range(16)]
    x, y = problem(4, np.array(names), 25, 40)
    matched = RidgeConfig(criterion="identification", variance_matching=[0.0])
    plain = RidgeConfig(criterion="identification")
    data = {"a": TrainingRows(x, y, names)}
    ours, theirs = Ridge.fit(matched, "t", data), Ridge.fit(plain, "t", data)
    assert np.allclose(ours.predict("a", x), theirs.predict("a", x), atol=1e-3)
    assert ours.fits["a"].alphas == theirs.fits["a"].alphas
    assert ours.fits["a"].gains is None


def test_matched_held_out_predictions_are_scaled_as_predictions_are() -> None:
    names = [f"s{i}" for i in range(16)]
    x, y = problem(5, np.array(names), 25, 8)
    plain, matched = (fit_ridge(x, y, names, [1.0], exponents=[exponent]) for exponent in (0.0, 1.0))
    assert matched.gains is not None
    held = left_out_predictions(x, y, names, matched)
    assert np.allclose(held.std(axis=0), y.std(axis=0), rtol=0.1), "with e = 1 they vary as the targets do"
    unscaled = left_out_predictions(x, y, names, plain)
    assert np.allclose(held, matched.offset + (unscaled - matched.offset) * matched.gains, atol=1e-4)


@pytest.mark.parametrize("features", [6, 200], ids=["primal", "dual"])
def test_several_subjects_load_as_they_were_saved(features: int, tmp_path: Path) -> None:
    data = {}
    for index, subject in enumerate(("sub-01", "sub-02")):
        names = np.array([f"s{i}" for i in range(index, 20 + index)])  # other stimuli, so another training mean
        x, _ = problem(6 + index, names, features + index, 30)
        y = np.random.default_rng(0).normal(size=(21, 30))[index : index + 20]
        data[subject] = TrainingRows(x, y, list(names))
    ridge = Ridge.fit(RidgeConfig(variance_matching=0.5), "t", data)
    save_part(tmp_path / "part", ridge)
    loaded = load_regressor(tmp_path / "part")
    for subject, rows in data.items():
        assert np.array_equal(ridge.predict(subject, rows.features), loaded.predict(subject, rows.features))
    assert isinstance(loaded, Ridge)
    assert loaded.state()[0] == ridge.state()[0]


def test_parts_of_before_have_no_gains() -> None:
    x, y = problem(7, np.array([f"s{i}" for i in range(9)]), 5, 3)
    fit = fit_ridge(x, y, [f"s{i}" for i in range(9)], [1.0])
    state = fit.state("subjects.a")
    assert not any("gains" in name for name in state)
    assert RidgeFit.from_state(state, "subjects.a").gains is None


def test_the_exponent_and_the_penalty_are_chosen_together() -> None:
    names = np.array([f"s{i}" for i in range(40)])
    x, y = problem(8, names, 60, 50)
    data = {"a": TrainingRows(x, y, list(names))}
    one = {e: Ridge.fit(RidgeConfig(criterion="identification", variance_matching=[e]), "t", data) for e in (0.0, 1.0)}
    best = min(one.values(), key=lambda ridge: ridge.fits["a"].errors.min())
    both = Ridge.fit(RidgeConfig(criterion="identification", variance_matching=[0.0, 1.0]), "t", data)
    assert np.array_equal(both.predict("a", x), best.predict("a", x))


def test_identification_of_noise_is_at_chance() -> None:
    # Less the mean of all stimuli, and not of the others, a shrunken prediction would be identified less than .5.
    scores = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(30, 10)), rng.normal(size=(30, 20))
        names = [f"s{i}" for i in range(30)]
        fit = fit_ridge(x, y, names, [0.1, 1e3], criterion="identification")
        scores.append(1 - fit.errors)
    assert np.allclose(np.mean(scores, axis=0), 0.5, atol=0.03)


def test_ties_count_one_half() -> None:
    assert two_way(np.zeros((4, 4))) == 0.5
    assert two_way(np.eye(4)) == 1.0


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"variance_matching": 1.5}, "above 0 and up to 1"),
        ({"variance_matching": 0}, "above 0 and up to 1"),
        ({"variance_matching": [0.5, 2]}, "from 0 to 1"),
        ({"variance_matching": []}, "at least one"),
        ({"variance_matching": [0.5, 1.0]}, "cannot choose among"),
        ({"criterion": "identification", "penalty_per": "target"}, "cannot choose a penalty for each"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        RidgeConfig(**settings)
