"""Ridge with a correction: better where targets bend, ridge itself where nothing is left to learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelError
from core.files import read_json, write_json
from models.decoders.build import fit_regressors, load_regressor, save_part
from models.regressors.residual import Residual
from models.regressors.settings import RidgeConfig
from models.training.loop import Context

from .nonlinear import Problem, TrainingRows, r2, tiny_residual

BOTH = {"sub-01": 12, "sub-02": 17}


def fit(train: dict[str, TrainingRows], seed: int = 0, **changed: object) -> Residual:
    made = fit_regressors(tiny_residual(**changed), {"z": ("bent", train)}, Context(seed))["z"]
    assert isinstance(made, Residual)
    return made


def test_it_adds_what_ridge_leaves_over_for_subjects_of_unequal_voxels() -> None:
    problem = Problem(bend=0.5, voxels=BOTH)
    train, test = problem.rows(), problem.rows(80, prefix="t")
    made = fit(train)
    ridge = r2(fit_regressors(RidgeConfig(), {"z": ("bent", train)})["z"], test)
    assert made.subjects == ["sub-01", "sub-02"]
    assert made.widths == (-1, 4)
    for name, learned in r2(made, test).items():
        assert made.factor[name] > 0.5
        assert 0.3 < ridge[name] < 0.8
        assert learned > ridge[name] + 0.1


def test_where_all_is_linear_it_is_no_worse_than_ridge() -> None:
    problem = Problem(bend=0.0, noise=1.0, stimuli=60)
    train, test = problem.rows(), problem.rows(200, prefix="t")
    ridge = fit_regressors(RidgeConfig(components=4), {"z": ("bent", train)})["z"]
    assert r2(fit(train), test)["sub-01"] > r2(ridge, test)["sub-01"] - 0.02


def test_where_its_factor_is_none_it_is_ridge_exactly() -> None:
    problem, rng = Problem(voxels=BOTH), np.random.default_rng(0)
    train, test = problem.rows(30), problem.rows(20, prefix="t")
    ridge = fit_regressors(RidgeConfig(components=4, repeats="single"), {"z": ("bent", train)})["z"]
    none = replace(fit(train, steps=20), factor={"sub-01": 0.0, "sub-02": 0.0})
    for name, rows in test.items():
        assert np.array_equal(none.predict(name, rows.features), ridge.predict(name, rows.features))
    factors = []
    for seed in range(8):  # what follows from nothing is as often wrong as right, and then not added
        noise = {name: replace(rows, targets=rng.normal(size=rows.targets.shape)) for name, rows in train.items()}
        factors += list(fit(noise, seed, steps=15).factor.values())
    assert 0.0 in factors
    assert all(0 <= factor <= 1 for factor in factors)


def test_the_correction_is_scaled_by_its_factor() -> None:
    problem = Problem(bend=0.5)
    train, features = problem.rows(), problem.rows(20, prefix="t")["sub-01"].features
    made = fit(train, steps=60)
    none, half, whole = (replace(made, factor={"sub-01": by}).predict("sub-01", features) for by in (0.0, 0.5, 1.0))
    assert np.abs(whole - none).max() > 0.1
    assert np.allclose(half, (none + whole) / 2, atol=1e-4)


def test_the_unit_of_the_targets_does_not_matter() -> None:
    problem = Problem(bend=0.5)
    train, features = problem.rows(60), problem.rows(20, prefix="t")["sub-01"].features
    louder = {name: replace(rows, targets=64 * rows.targets) for name, rows in train.items()}
    one, other = (fit(rows, steps=60) for rows in (train, louder))
    assert one.factor["sub-01"] == pytest.approx(other.factor["sub-01"], abs=1e-3)
    assert one.factor["sub-01"] > 0.1
    made, expected = other.predict("sub-01", features), 64 * one.predict("sub-01", features)
    assert np.allclose(made, expected, atol=1e-3 * expected.std())


def test_it_is_kept_without_loss_and_fitted_again_to_the_same_bytes(tmp_path: Path) -> None:
    train = Problem(bend=0.5, voxels=BOTH).rows(40)
    one = fit(train, 1, steps=40, penalty_per="target")
    digest = save_part(tmp_path / "one", one)
    loaded = load_regressor(tmp_path / "one")
    assert (loaded.target, loaded.shape, loaded.subjects, loaded.widths) == ("bent", (2, 2), one.subjects, one.widths)
    for name, rows in train.items():
        assert np.array_equal(loaded.predict(name, rows.features), one.predict(name, rows.features))
    again = fit(train, 1, steps=40, penalty_per="target")
    assert save_part(tmp_path / "two", again) == save_part(tmp_path / "three", loaded) == digest
    assert save_part(tmp_path / "four", fit(train, 2, steps=40, penalty_per="target")) != digest


def test_too_few_stimuli_and_values_that_are_no_numbers_are_one_line() -> None:
    with pytest.raises(ModelError, match="ridge: 2 training stimuli; at least 3 are needed to choose a penalty"):
        fit(Problem().rows(2))
    with pytest.raises(ModelError, match="correction of ridge for bent: 3 training stimuli; at least 4 are needed"):
        fit(Problem().rows(3))
    rows = Problem().rows(20)["sub-01"]
    rows.features[7] = np.nan
    with pytest.raises(ModelError, match="1 of 40 feature rows hold NaN or infinity, the first of them row 7"):
        fit({"sub-01": rows})


def test_a_model_registered_with_the_old_name_of_a_setting_is_read(tmp_path: Path) -> None:
    problem = Problem(stimuli=20)
    train, test = problem.rows(), problem.rows(5, prefix="t")
    made = fit(train, steps=5)
    save_part(tmp_path / "z", made)
    content = read_json(tmp_path / "z" / "config.json")
    content["config"]["penalties"] = content["config"].pop("alphas")
    write_json(tmp_path / "z" / "config.json", content)
    again = load_regressor(tmp_path / "z")
    for name, rows in test.items():
        assert np.array_equal(again.predict(name, rows.features), made.predict(name, rows.features))
