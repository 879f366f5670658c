"""Penalties at an end of their candidates: the grid grows, what is left there is counted, noise is told as such."""

from typing import Any

import numpy as np
import pytest

from models.regressors.penalty import END_NAMES, note_on_ends, penalty_notes, search_penalties, summary
from models.regressors.ridge import Ridge, RidgeFit, fit_ridge
from models.regressors.ridge_columns import fit_columns
from models.regressors.settings import RidgeConfig

from .nonlinear import TrainingRows

GRID = RidgeConfig().alphas
Problem = tuple[np.ndarray, np.ndarray, list[str]]


def names(count: int) -> list[str]:
    return [str(index) for index in range(count)]


def signal(seed: int, noise: float, rows: int = 100, features: int = 60) -> Problem:
    """Features, and three values that follow from them with as much noise as signal, or another share."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    y = x @ rng.normal(size=(features, 3)) / features**0.5 + noise * rng.normal(size=(rows, 3))
    return x, y.astype(np.float32), names(rows)


def ends(fit: RidgeFit) -> dict[str, int]:
    return {name: int(count) for name, count in zip(END_NAMES, fit.ends, strict=True) if count}


@pytest.mark.parametrize("per", ["role", "target"])
@pytest.mark.parametrize("criterion", ["leave_one_stimulus_out", "gcv"])
@pytest.mark.parametrize("part", [slice(0, 3), slice(-3, None)])
def test_a_grid_that_ends_too_soon_finds_what_a_wide_one_does(per: Any, criterion: Any, part: slice) -> None:
    x, y, stimuli = signal(0, 1.0)
    wide = fit_ridge(x, y, stimuli, GRID, criterion=criterion, penalty_per=per)
    narrow = fit_ridge(x, y, stimuli, GRID[part], criterion=criterion, penalty_per=per)
    assert not ends(wide)
    assert not ends(narrow)
    assert narrow.alphas == pytest.approx(wide.alphas, rel=1e-9)
    assert len(narrow.candidates) > 3
    assert narrow.predict(x) == pytest.approx(wide.predict(x), abs=1e-4)


def test_a_best_candidate_inside_leaves_all_as_it_was() -> None:
    x, y, stimuli = signal(1, 1.0)
    one, other = fit_ridge(x, y, stimuli, GRID), fit_ridge(x, y, stimuli, GRID, grow=False)
    assert one.weights.tobytes() == other.weights.tobytes()
    assert one.candidates.tolist() == GRID
    assert one.errors.tobytes() == other.errors.tobytes()


def test_noise_is_told_as_no_signal() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 300)).astype("f4"), rng.normal(size=(100, 500)).astype("f4")
    fit = fit_ridge(x, y, names(100), [1.0, 10.0])
    assert ends(fit) == {"no_signal": 1}
    assert fit.alphas[0] >= 100, "the two candidates shrink too little for what is noise"
    assert fit.predict(x).std(axis=0).max() < 0.05
    note = note_on_ends(summary(fit.alphas, fit.ends))
    assert note.endswith("so large that predictions are the training mean, which predicts best: no signal")


def test_two_candidates_are_tried_from_both_sides() -> None:
    """The first problem of the audit, whose best of the two is the larger one: 100 is worse, so 10 is no end."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 300)).astype("f4"), rng.normal(size=(100, 3)).astype("f4")
    fit = fit_ridge(x, y, names(100), [1.0, 10.0])
    wide = fit_ridge(x, y, names(100), [0.1, 1.0, 10.0, 100.0, 1e3])
    assert fit.alphas.tolist() == wide.alphas.tolist() == [10.0]
    assert not ends(fit)


def test_targets_that_features_give_exactly_are_at_the_lower_end() -> None:
    x = np.random.default_rng(0).normal(size=(100, 300)).astype("f4")
    fit = fit_ridge(x, x[:, :2], names(100), [1e-4, 1.0])
    assert ends(fit) == {"lower_end": 1}
    assert note_on_ends(summary(fit.alphas, fit.ends)) == "the penalty is at the lower end of the candidates, 0.0001"


def test_one_loud_value_decides_for_all_and_that_is_told() -> None:
    rng = np.random.default_rng(0)
    rng.normal(size=100 * 303)
    x = rng.normal(size=(200, 500)).astype("f4")
    s = (x[:, :100] @ rng.normal(size=(100, 1)) / 10).astype("f4")
    y = np.c_[s, 30 * rng.normal(size=(200, 1))].astype("f4")
    together = fit_ridge(x, y, names(200), GRID)
    each = fit_ridge(x, y, names(200), GRID, penalty_per="target")
    assert ends(together) == {"no_signal": 1}
    assert ends(each) == {"no_signal": 1}, "the noisy value alone"
    assert each.alphas[0] < 100 < each.alphas[1]
    assert fit_ridge(x, s, names(200), GRID).alphas.tolist() == [each.alphas[0]]


def test_ends_are_counted_for_each_target() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 30)).astype(np.float32)
    y = np.c_[x @ rng.normal(size=(30, 2)), rng.normal(size=(80, 5)), np.ones((80, 1))].astype(np.float32)
    fit = fit_ridge(x, y, names(80), [1e-3, 1e-2, 1.0, 1e4], penalty_per="target")
    counts = ends(fit)
    assert counts["lower_end"] == 2, "two values follow from the features without noise"
    assert 1 <= counts["no_signal"] <= 5
    assert "upper_end" not in counts
    assert fit.errors.shape == (len(fit.candidates), 8)
    assert np.isnan(fit.errors[4:]).any(axis=0).all() if len(fit.candidates) > 4 else True
    note = note_on_ends(summary(fit.alphas, fit.ends))
    assert note.startswith("of 8 penalties 2 are at the lower end of the candidates, ")


def test_a_single_candidate_is_fixed() -> None:
    x, y, stimuli = signal(2, 30.0)
    fit = fit_ridge(x, y, stimuli, [0.01])
    assert fit.alphas.tolist() == [0.01]
    assert not ends(fit)
    assert len(fit.candidates) == 1


def test_a_grid_may_be_kept_as_it_is() -> None:
    x, y, stimuli = signal(3, 1.0)
    fit = fit_ridge(x, y, stimuli, GRID[:3], grow=False)
    assert fit.alphas.tolist() == [GRID[2]]
    assert ends(fit) == {"upper_end": 1}


@pytest.mark.parametrize("features", [10, 200])
def test_a_fit_of_columns_grows_alike(features: int) -> None:
    x, y, stimuli = signal(4, 2.0, features=features)
    config = RidgeConfig(alphas=GRID[4:7])
    made, wanted = fit_columns(x, y, stimuli, config), fit_ridge(x, y, stimuli, config.alphas)
    assert made.alphas == pytest.approx(wanted.alphas, rel=1e-9)
    assert made.ends.tolist() == wanted.ends.tolist()
    assert made.errors == pytest.approx(wanted.errors, rel=2e-3)


def test_a_grid_does_not_grow_without_end() -> None:
    """An error that falls for ever: by the step that the grid has, to its bound or for twenty candidates."""

    def falling(candidates: np.ndarray, _: np.ndarray | None) -> np.ndarray:
        return np.asarray(1 - 0.01 * np.log10(candidates)) if np.isfinite(candidates).all() else np.ones(1)

    found = search_penalties(falling, [1.0, 10.0])
    assert found.chosen == pytest.approx([1e12])
    assert found.ends.tolist() == [0, 1, 0]
    found = search_penalties(falling, [1.0, 2.0])
    assert found.chosen.tolist() == [2.0**21]
    rising = search_penalties(lambda c, t: 2 - falling(c, t), [1.0, 10.0])
    assert rising.chosen == pytest.approx([1e-3])
    assert rising.ends.tolist() == [1, 0, 0]


def test_what_is_at_an_end_survives_the_disk_and_old_fits_have_none() -> None:
    rng = np.random.default_rng(5)
    rows = TrainingRows(rng.normal(size=(40, 20)), rng.normal(size=(40, 6)), names(40))
    ridge = Ridge.fit(RidgeConfig(penalty_per="target"), "latents", {"sub-01": rows})
    config, tensors = ridge.state()
    notes = penalty_notes(config)
    assert list(notes) == ["sub-01"]
    assert "no signal" in notes["sub-01"]
    again = Ridge.from_state(config, tensors)
    assert again.state()[0] == config
    for added in ("candidates", "ends"):
        del tensors[f"subjects.sub-01.{added}"]
    config["penalties"] = {"sub-01": {"lowest": 0.1, "median": 1.0, "highest": 10.0}}
    old = Ridge.from_state(config, tensors)
    assert old.predict("sub-01", rows.features) == pytest.approx(ridge.predict("sub-01", rows.features))
    assert penalty_notes(config) == {}
    assert penalty_notes({"kind": "mlp"}) == {}
