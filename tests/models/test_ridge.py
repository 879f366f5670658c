"""Ridge: equal to scikit-learn's, its penalty chosen over stimuli, kept without loss."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import LeaveOneGroupOut

from core.errors import ModelError
from models.parts import load_regressor, save_part
from models.regressors.ridge import Ridge, fit_ridge, held_out_errors


def problem(seed: int, stimuli: int, repeats: int, features: int, targets: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(stimuli * repeats, features)) + rng.normal(size=features)
    y = x @ rng.normal(size=(features, targets)) + rng.normal(size=(stimuli * repeats, targets)) + 3
    return x, y, np.repeat([f"s{i}" for i in range(stimuli)], repeats)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6),
    st.integers(4, 20),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 5),
    st.floats(-2, 3),
)
def test_predictions_equal_scikit_learns(
    seed: int, stimuli: int, repeats: int, features: int, targets: int, log_penalty: float
) -> None:
    x, y, names = problem(seed, stimuli, repeats, features, targets)
    penalty = 10**log_penalty
    fit = fit_ridge(x, y, names, [penalty])
    centred = x - x.mean(0)
    theirs = SklearnRidge(alpha=penalty * (centred**2).sum() / len(x)).fit(x, y)
    fresh = np.random.default_rng(seed + 1).normal(size=(3, features))
    assert np.allclose(fit.predict(fresh), theirs.predict(fresh).reshape(3, targets), atol=1e-3 * np.abs(y).max())


@pytest.mark.parametrize("repeats", [1, 3])
def test_held_out_errors_equal_refitting_without_each_stimulus(repeats: int) -> None:
    x, y, names = problem(0, 10, repeats, 25, 4)
    xc, yc = x - x.mean(0), y - y.mean(0)
    penalties = [0.5, 5.0, 50.0]
    ours = held_out_errors(xc @ xc.T, yc @ yc.T, list(names), penalties)
    for penalty, error in zip(penalties, ours, strict=True):
        theirs = 0.0
        for train, test in LeaveOneGroupOut().split(x, groups=names):
            theirs += ((SklearnRidge(alpha=penalty).fit(x[train], y[train]).predict(x[test]) - y[test]) ** 2).sum()
        assert error == pytest.approx(theirs, rel=1e-8)


def test_stimuli_with_unequal_repetitions_are_left_out_whole() -> None:
    x, y, _ = problem(1, 12, 1, 20, 3)
    names = ["a", "a", "a", "b", "b", "c", "d", "e", "f", "g", "h", "h"]
    xc, yc = x - x.mean(0), y - y.mean(0)
    ours = held_out_errors(xc @ xc.T, yc @ yc.T, names, [3.0])[0]
    theirs = sum(
        ((SklearnRidge(alpha=3.0).fit(x[train], y[train]).predict(x[test]) - y[test]) ** 2).sum()
        for train, test in LeaveOneGroupOut().split(x, groups=names)
    )
    assert ours == pytest.approx(theirs, rel=1e-8)


def test_leaving_out_trials_would_have_chosen_another_penalty() -> None:
    """Repetitions share their stimulus's targets: left-out trials leak, left-out stimuli do not."""
    rng = np.random.default_rng(2)
    codes, targets = rng.normal(size=(20, 30)), rng.normal(size=(20, 5))
    x = np.repeat(codes, 4, axis=0) + 0.05 * rng.normal(size=(80, 30))
    y, names = np.repeat(targets, 4, axis=0), [f"s{i // 4}" for i in range(80)]
    penalties = [1e-4, 1e-2, 1.0, 100.0]
    xc, yc = x - x.mean(0), y - y.mean(0)
    by_stimulus = held_out_errors(xc @ xc.T, yc @ yc.T, names, penalties)
    by_trial = held_out_errors(xc @ xc.T, yc @ yc.T, [str(i) for i in range(80)], penalties)
    assert by_trial.argmin() < 3, "a trial left out is remembered from its repetitions"
    assert by_stimulus.argmin() == 3, "nothing carries over to new stimuli here, so the largest penalty is right"


def test_the_best_penalty_is_chosen_and_errors_are_relative_to_the_mean() -> None:
    x, y, names = problem(3, 30, 2, 20, 3)
    fit = fit_ridge(x, y, names, [1e-3, 1.0, 1e6])
    assert fit.penalty == pytest.approx([1e-3, 1.0, 1e6][int(fit.errors.argmin())])
    assert fit.errors[-1] == pytest.approx(1, abs=0.1)


def test_bad_input_is_one_line() -> None:
    x, y, names = problem(0, 5, 1, 4, 2)
    with pytest.raises(ModelError, match="2 training stimuli; at least 3"):
        fit_ridge(x[:2], y[:2], names[:2], [1.0])
    with pytest.raises(ModelError, match="targets hold NaN"):
        fit_ridge(x, np.where(y > 0, np.nan, y), names, [1.0])
    with pytest.raises(ModelError, match="features do not vary"):
        fit_ridge(np.ones_like(x), y, names, [1.0])


def test_it_is_kept_without_loss(tmp_path: Path) -> None:
    x, y, names = problem(4, 8, 2, 6, 6)
    ridge = Ridge("latents", (2, 3), {"sub-01": fit_ridge(x, y, names, [0.1, 1.0])})
    save_part(tmp_path / "z", ridge, encoder_digest="e")
    again = load_regressor(tmp_path / "z")
    assert (again.target, again.shape) == ("latents", (2, 3))
    assert np.array_equal(again.predict("sub-01", x), ridge.predict("sub-01", x))
    assert sorted(path.name for path in (tmp_path / "z").iterdir()) == ["config.json", "model.safetensors"]
