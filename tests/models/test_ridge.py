"""Ridge: equal to scikit-learn's, its penalties chosen over stimuli, kept small and without loss."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import LeaveOneGroupOut

from core.errors import ModelError
from models.decoders.build import load_regressor, save_part
from models.decoders.rows import FeatureCache
from models.regressors import penalty
from models.regressors.penalty import Spectrum, gcv_errors, left_out_errors, left_out_errors_per_target
from models.regressors.ridge import Ridge, fit_ridge, left_out_predictions
from models.regressors.settings import RidgeConfig

from .nonlinear import TrainingRows

PENALTIES = [1e-2, 0.1, 1.0, 10.0, 1e3]
UNEQUAL = ["a", "a", "a", "b", "b", "c", "d", "e", "f", "g", "h", "h"]


def problem(seed: int, stimuli: int, repeats: int, features: int, targets: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(stimuli * repeats, features)) + rng.normal(size=features)
    y = x @ rng.normal(size=(features, targets)) + rng.normal(size=(stimuli * repeats, targets)) + 3
    return x, y, np.repeat([f"s{i}" for i in range(stimuli)], repeats)


def rows_of(x: np.ndarray, stimuli: int, targets: int, repeats: int = 1) -> TrainingRows:
    """Rows whose targets are equal for equal stimuli, as a store's are, from weak to strong in what x tells of them."""
    rng = np.random.default_rng(9)
    means = x.reshape(stimuli, repeats, -1).mean(axis=1)
    y = means @ rng.normal(size=(x.shape[1], targets)) * np.linspace(0, 2, targets) + rng.normal(size=targets)
    y += 3 * rng.normal(size=(stimuli, targets))
    return TrainingRows(x, np.repeat(y, repeats, axis=0), [f"s{i // repeats}" for i in range(len(x))])


def unit_of(x: np.ndarray) -> float:
    return float(((x - x.mean(0)) ** 2).sum() / len(x))


def spectrum_of(x: np.ndarray, y: np.ndarray) -> tuple[Spectrum, np.ndarray]:
    """The spectrum of features and the rotated targets, in float64 throughout."""
    spectrum = Spectrum.of(x - x.mean(0))
    return spectrum, spectrum.rotate(y, y.mean(0), np.float64)


def refitted(x: np.ndarray, y: np.ndarray, names: Any, penalty: float | np.ndarray) -> np.ndarray:
    """Predictions (row, target) of each stimulus from all the others, by fitting that often."""
    predicted = np.empty_like(y)
    for train, test in LeaveOneGroupOut().split(x, groups=names):
        predicted[test] = SklearnRidge(alpha=penalty).fit(x[train], y[train]).predict(x[test]).reshape(len(test), -1)
    return predicted


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(4, 20),
    st.integers(1, 3),
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from(["role", "target"]),
    st.sampled_from(["leave_one_stimulus_out", "gcv"]),
)
def test_predictions_equal_scikit_learns(
    seed: int, stimuli: int, repeats: int, features: int, targets: int, per: Any, criterion: Any
) -> None:
    x, y, names = problem(seed, stimuli, repeats, features, targets)
    y[:, 0] = np.random.default_rng(seed + 2).normal(size=len(y))  # so that targets want penalties of their own
    names = names if criterion == "leave_one_stimulus_out" else np.arange(len(y))
    fit = fit_ridge(x, y, names, PENALTIES, criterion=criterion, penalty_per=per)
    assert fit.alphas.shape == ((targets,) if per == "target" else (1,))
    theirs = SklearnRidge(alpha=np.broadcast_to(fit.alphas, targets) * unit_of(x)).fit(x, y)
    fresh = np.random.default_rng(seed + 1).normal(size=(3, features))
    assert np.allclose(fit.predict(fresh), theirs.predict(fresh).reshape(3, targets), atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize(("features", "targets"), [(600, 500), (30, 5000)])
@pytest.mark.parametrize("per", ["role", "target"])
def test_large_problems_in_float32_equal_scikit_learns_in_float64(features: int, targets: int, per: Any) -> None:
    x, y, names = problem(5, 150, 1, features, targets)
    fit = fit_ridge(x.astype(np.float32), y.astype(np.float32), names, [0.01, 1.0, 1e3], penalty_per=per)
    assert (fit.rows is None) == (features == 30)
    theirs = SklearnRidge(alpha=np.broadcast_to(fit.alphas, targets) * unit_of(x)).fit(x, y)
    assert np.allclose(fit.predict(x), theirs.predict(x), atol=1e-4 * np.abs(y).max())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(4, 20), st.integers(1, 40), st.integers(1, 30), st.sampled_from(PENALTIES))
def test_on_all_components_predictions_equal_scikit_learns(
    seed: int, stimuli: int, features: int, targets: int, penalty: float
) -> None:
    x, y, names = problem(seed, stimuli, 1, features, targets)
    ridge = Ridge.fit(
        RidgeConfig(alphas=[penalty], components=10**6), "latents", {"a": TrainingRows(x, y, list(names))}
    )
    theirs = SklearnRidge(alpha=penalty * unit_of(x)).fit(x, y)
    fresh = np.random.default_rng(seed + 1).normal(size=(3, features))
    assert np.allclose(
        ridge.predict("a", fresh), theirs.predict(fresh).reshape(3, targets), atol=1e-4 * np.abs(y).max()
    )


@pytest.mark.parametrize("components", [4, 0.8])
@pytest.mark.parametrize("repeats", [1, 3])
def test_on_few_components_predictions_equal_scikit_learns_pca_and_ridge(components: Any, repeats: int) -> None:
    rows = rows_of(problem(6, 20, repeats, 25, 1)[0], 20, 30, repeats)
    x, y = rows.features, rows.targets
    config = RidgeConfig(alphas=[0.5], components=components, repeats="single")
    ridge = Ridge.fit(config, "latents", {"a": rows})
    pca = PCA(components, svd_solver="full").fit(y[::repeats])
    assert ridge.basis is not None
    assert len(ridge.basis.vectors) == pca.n_components_ < 19
    assert ridge.state()[0]["explained_variance"] == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-5)
    theirs = SklearnRidge(alpha=0.5 * unit_of(x)).fit(x, pca.transform(y))
    fresh = np.random.default_rng(1).normal(size=(3, 25))
    expected = pca.inverse_transform(theirs.predict(fresh))
    assert np.allclose(ridge.predict("a", fresh), expected, atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize("repeats", [1, 3])
def test_held_out_errors_equal_refitting_without_each_stimulus(repeats: int) -> None:
    x, y, names = problem(0, 10, repeats, 25, 4)
    spectrum, rotated = spectrum_of(x, y)
    penalties = [0.5, 5.0, 50.0]
    summed = left_out_errors(spectrum, rotated @ rotated.T, list(names), penalties)
    per_target = left_out_errors_per_target(spectrum, rotated, list(names), penalties)
    for row, value in enumerate(penalties):
        theirs = ((refitted(x, y, names, value) - y) ** 2).sum(axis=0)
        assert summed[row] == pytest.approx(theirs.sum(), rel=1e-8)
        assert per_target[row] == pytest.approx(theirs, rel=1e-8)


def test_stimuli_with_unequal_repetitions_are_left_out_whole() -> None:
    x, y, _ = problem(1, 12, 1, 20, 3)
    spectrum, rotated = spectrum_of(x, y)
    theirs = ((refitted(x, y, UNEQUAL, 3.0) - y) ** 2).sum(axis=0)
    assert left_out_errors(spectrum, rotated @ rotated.T, UNEQUAL, [3.0])[0] == pytest.approx(theirs.sum(), rel=1e-8)
    assert left_out_errors_per_target(spectrum, rotated, UNEQUAL, [3.0])[0] == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("features", [5, 40])
def test_generalised_cross_validation_equals_its_definition(features: int) -> None:
    x, y, _ = problem(7, 15, 1, features, 4)
    spectrum, rotated = spectrum_of(x, y)
    ours = gcv_errors(spectrum, rotated**2, [0.5, 50.0])
    design = np.column_stack([np.ones(15), x])
    for error, value in zip(ours, [0.5, 50.0], strict=True):
        unpenalised_intercept = value * np.diag([0.0] + [1.0] * features)
        hat = design @ np.linalg.solve(design.T @ design + unpenalised_intercept, design.T)
        theirs = ((y - hat @ y) ** 2).sum(axis=0) / (1 - np.trace(hat) / 15) ** 2
        assert error == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("criterion", ["leave_one_stimulus_out", "gcv"])
def test_one_error_for_all_targets_is_the_sum_of_theirs(criterion: Any) -> None:
    x, y, names = problem(8, 25, 1, 40, 6)
    together = fit_ridge(x, y, names, PENALTIES, criterion=criterion, grow=False)
    each = fit_ridge(x, y, names, PENALTIES, criterion=criterion, penalty_per="target", grow=False)
    assert together.errors == pytest.approx(each.errors @ y.var(axis=0) / y.var(axis=0).sum(), rel=1e-4)


@pytest.mark.parametrize("criterion", ["leave_one_stimulus_out", "gcv"])
def test_each_target_gets_the_penalty_that_suits_it(criterion: Any) -> None:
    rng = np.random.default_rng(10)
    x = rng.normal(size=(60, 20))
    y = np.column_stack([x @ rng.normal(size=20), rng.normal(size=60)])
    names = [f"s{i}" for i in range(60)]
    fit = fit_ridge(x, y, names, [1e-3, 1e3], criterion=criterion, penalty_per="target", grow=False)
    assert fit.alphas.tolist() == [1e-3, 1e3], "the first target follows from the features, the second does not"
    assert fit.errors.shape == (2, 2)


@pytest.mark.parametrize("per", ["role", "target"])
@pytest.mark.parametrize("names", [[f"s{i}" for i in range(12)], UNEQUAL])
def test_held_out_predictions_equal_refitting_without_each_stimulus(per: Any, names: list[str]) -> None:
    rng = np.random.default_rng(11)
    x, y, _ = problem(11, 12, 1, 20, 6)
    y[:, ::2] = 4 * rng.normal(size=(12, 3))
    fit = fit_ridge(x, y, names, [0.05, 1.0, 100.0], penalty_per=per)
    assert len(set(fit.alphas)) > (per == "target")
    theirs = refitted(x, y, names, np.broadcast_to(fit.alphas, 6) * unit_of(x))
    assert np.allclose(left_out_predictions(x, y, names, fit), theirs, atol=1e-4 * np.abs(y).max())


def test_the_intercept_is_outside_the_spectrum_in_float32_too() -> None:
    x, _, _ = problem(15, 30, 1, 200, 1)
    rows = (100 * (x - x.mean(0))).astype(np.float32)
    spectrum = Spectrum.of(rows)
    assert spectrum.values[0] < 1e-13 * spectrum.values[-1] < spectrum.values[1]
    assert np.abs(spectrum.vectors[:, 0]) == pytest.approx(30**-0.5, rel=1e-10)


def test_leaving_out_trials_would_have_chosen_another_penalty() -> None:
    """Repetitions share their stimulus's targets: left-out trials leak, left-out stimuli do not."""
    rng = np.random.default_rng(2)
    codes, targets = rng.normal(size=(20, 30)), rng.normal(size=(20, 5))
    x = np.repeat(codes, 4, axis=0) + 0.05 * rng.normal(size=(80, 30))
    y, names = np.repeat(targets, 4, axis=0), [f"s{i // 4}" for i in range(80)]
    penalties = [1e-4, 1e-2, 1.0, 100.0]
    spectrum, rotated = spectrum_of(x, y)
    by_stimulus = left_out_errors(spectrum, rotated @ rotated.T, names, penalties)
    by_trial = left_out_errors(spectrum, rotated @ rotated.T, [str(i) for i in range(80)], penalties)
    assert by_trial.argmin() < 3, "a trial left out is remembered from its repetitions"
    assert by_stimulus.argmin() == 3, "nothing carries over to new stimuli here, so the largest penalty is right"


def test_the_best_penalty_is_chosen_and_errors_are_relative_to_the_mean() -> None:
    x, y, names = problem(3, 30, 2, 20, 3)
    fit = fit_ridge(x, y, names, [1e-3, 1.0, 1e6])
    assert fit.alphas == pytest.approx([[1e-3, 1.0, 1e6][int(fit.errors.argmin())]])
    assert fit.errors[-1] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("per", ["role", "target"])
@pytest.mark.parametrize("criterion", ["leave_one_stimulus_out", "gcv"])
def test_targets_that_do_not_vary_are_predicted_as_they_are(per: Any, criterion: Any) -> None:
    x, _, names = problem(14, 10, 1, 6, 1)
    fit = fit_ridge(x, np.full((10, 3), 2.0), names, PENALTIES, criterion=criterion, penalty_per=per)
    assert np.array_equal(fit.predict(x), np.full((10, 3), 2.0))
    assert np.isfinite(fit.errors).all()


def test_bad_input_is_one_line() -> None:
    x, y, names = problem(0, 5, 1, 4, 2)
    with pytest.raises(ModelError, match="2 training stimuli; at least 3"):
        fit_ridge(x[:2], y[:2], names[:2], [1.0])
    with pytest.raises(ModelError, match="targets hold NaN"):
        fit_ridge(x, np.where(y > 0, np.nan, y), names, [1.0])
    with pytest.raises(ModelError, match="features do not vary"):
        fit_ridge(np.full_like(x, 0.1), y, names, [1.0])
    with pytest.raises(ModelError, match="2 of 5 feature rows hold NaN or infinity, the first of them row 3"):
        fit_ridge(np.where(np.arange(5)[:, None] > 2, np.nan, x), y, names, [1.0])
    with pytest.raises(ModelError, match="5 rows of 4 stimuli.*repeats: mean.*criterion: leave_one_stimulus_out"):
        fit_ridge(x, y, [*names[:4], names[0]], [1.0], criterion="gcv")
    with pytest.raises(ModelError, match="5 rows of 4 features and 2 target values are not those"):
        left_out_predictions(x + 1, y, names, fit_ridge(x, y, names, [1.0]))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="'gcv' takes rows as independent; use it with repeats 'mean'"):
        RidgeConfig(criterion="gcv", repeats="single")
    with pytest.raises(ValidationError, match="'penalties' is the old name of 'alphas'; give 'alphas' alone"):
        RidgeConfig.model_validate({"penalties": [1.0], "alphas": [1.0]})
    unusable: list[Any] = [0, -3, 1.5, 0.0, True, "all"]
    for components in unusable:
        with pytest.raises(ValidationError, match="expected a whole number of components from 1, or a share"):
            RidgeConfig(components=components)
    assert RidgeConfig(components=1).components == 1
    assert isinstance(RidgeConfig(components=1.0).components, float), "all of the variance, not one component"


@pytest.mark.parametrize(
    "settings", [{}, {"penalty_per": "target"}, {"components": 3}, {"components": 0.9, "penalty_per": "target"}]
)
@pytest.mark.parametrize("features", [6, 60])
def test_it_is_kept_without_loss(settings: dict[str, Any], features: int, tmp_path: Path) -> None:
    rows = {
        subject: rows_of(problem(seed, 12, 1, features, 1)[0], 12, 30) for seed, subject in enumerate(["a", "basis"])
    }
    shaped = {
        subject: TrainingRows(one.features, one.targets.reshape(-1, 2, 15), one.stimuli)
        for subject, one in rows.items()
    }
    ridge = Ridge.fit(RidgeConfig(criterion="gcv", **settings), "latents", shaped)
    save_part(tmp_path / "z", ridge, encoder_digest="e")
    again = load_regressor(tmp_path / "z")
    assert isinstance(again, Ridge)
    assert (again.target, again.shape, again.subjects) == ("latents", (2, 15), ["a", "basis"])
    for subject, one in shaped.items():
        assert np.array_equal(again.predict(subject, one.features), ridge.predict(subject, one.features))
        assert np.array_equal(again.fits[subject].errors, ridge.fits[subject].errors)
        assert (again.fits[subject].rows is None) == (features == 6 or "components" in settings)
    assert again.state()[0] == ridge.state()[0]
    assert sorted(path.name for path in (tmp_path / "z").iterdir()) == ["config.json", "model.safetensors"]


def test_the_file_is_smaller_on_components_and_never_larger_than_the_smaller_form(tmp_path: Path) -> None:
    rows = rows_of(problem(13, 40, 1, 100, 1)[0], 40, 2000)
    sizes = {}
    for components in (None, 5):
        ridge = Ridge.fit(RidgeConfig(components=components), "latents", {f"sub-{i}": rows for i in range(3)})
        save_part(tmp_path / str(components), ridge)
        sizes[components] = (tmp_path / str(components) / "model.safetensors").stat().st_size
    dual, vectors, primal = 3 * 4 * 40 * (100 + 2000), 4 * 5 * 2000, 3 * 4 * 100 * 5
    assert sizes[None] == pytest.approx(dual, rel=0.05)
    assert sizes[5] == pytest.approx(vectors + primal, rel=0.3), "the components are kept once for all subjects"
    assert sizes[5] < sizes[None] / 10


def test_many_features_are_never_projected_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, names = problem(14, 30, 2, 200, 3)
    usual = fit_ridge(x.astype("f4"), y.astype("f4"), names, PENALTIES)
    monkeypatch.setattr(penalty, "PROJECTED", 0)
    other = fit_ridge(x.astype("f4"), y.astype("f4"), names, PENALTIES)
    assert usual.rows is None
    assert other.rows is None
    assert np.array_equal(other.alphas, usual.alphas)
    assert np.allclose(other.weights, usual.weights, atol=1e-5 * np.abs(usual.weights).max())


def test_roles_share_what_their_features_decide_and_are_fitted_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {
        role: {name: rows_of(problem(seed, 12, 2, 40, 1)[0], 12, wide, 2) for seed, name in enumerate(["a", "b"])}
        for role, wide in (("z", 5), ("b", 70))
    }
    for name in ("a", "b"):  # the same features, as a subject's are for all roles
        data["b"][name] = TrainingRows(data["z"][name].features, data["b"][name].targets, data["b"][name].stimuli)
    alone = {role: Ridge.fit(RidgeConfig(), role, of) for role, of in data.items()}
    asked, of = [], Spectrum.of
    monkeypatch.setattr(Spectrum, "of", lambda rows: asked.append(1) or of(rows))
    features = FeatureCache(lambda name: data["z"][name].features)
    both = Ridge.fit_roles(RidgeConfig(), {role: (role, of) for role, of in data.items()}, features=features)
    assert len(asked) == 2, "one for each subject"
    for role, one in alone.items():
        assert both[role].target == role
        for name in ("a", "b"):
            seen = data[role][name].features
            assert np.array_equal(both[role].predict(name, seen), one.predict(name, seen))


def test_the_names_of_the_last_release_are_read_with_a_warning() -> None:
    with (
        pytest.warns(FutureWarning, match="'penalties' is now called 'alphas'"),
        pytest.warns(FutureWarning, match="criterion 'loso' is now called 'leave_one_stimulus_out'"),
    ):
        old = RidgeConfig.model_validate({"kind": "ridge", "penalties": [0.5], "criterion": "loso"})
    assert old == RidgeConfig(alphas=[0.5], criterion="leave_one_stimulus_out")
