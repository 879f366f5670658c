"""The perceptron: learns what ridge cannot, shares layers between subjects and roles, hands each role on alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import ModelError
from core.progress import listening
from models.decoders.build import fit_regressors, load_regressor, save_part
from models.regressors.mlp import Mlp
from models.regressors.settings import RidgeConfig
from models.training.checkpoints import Checkpoints
from models.training.loop import Context, History

from .nonlinear import Problem, TrainingRows, r2, tiny_mlp

BOTH = {"sub-01": 12, "sub-02": 17}


def test_it_learns_what_ridge_cannot_for_subjects_of_unequal_voxels() -> None:
    problem = Problem(voxels=BOTH)
    train, test = problem.rows(), problem.rows(80, prefix="t")
    made = fit_regressors(tiny_mlp(), {"z": ("bent", train)})["z"]
    ridge = fit_regressors(RidgeConfig(), {"z": ("bent", train)})["z"]
    assert made.subjects == ["sub-01", "sub-02"]
    assert (made.widths, made.shape, made.target) == ((-1, 4), (2, 2), "bent")
    for name, learned in r2(made, test).items():
        assert r2(ridge, test)[name] < 0.1, "no linear map knows of squares"
        assert learned > 0.5


def test_a_subject_with_few_trials_gains_from_the_other() -> None:
    """Their hidden layers are shared, so what bends need not be learned twice."""
    problem = Problem(voxels={"sub-01": 6, "sub-02": 6}, noise=0.05)
    train, test = problem.rows(repeats=1), problem.rows(80, prefix="t")
    few = {"sub-02": _first(train["sub-02"], 40)}
    alone = fit_regressors(tiny_mlp(steps=400), {"z": ("bent", few)})["z"]
    together = fit_regressors(tiny_mlp(steps=400), {"z": ("bent", {"sub-01": train["sub-01"], **few})})["z"]
    assert r2(together, test)["sub-02"] > r2(alone, {"sub-02": test["sub-02"]})["sub-02"]


def _first(rows: TrainingRows, count: int) -> TrainingRows:
    return TrainingRows(rows.features[:count], rows.targets[:count], rows.stimuli[:count])


def test_roles_fitted_jointly_predict_alone_and_otherwise_than_fitted_apart(tmp_path: Path) -> None:
    problem = Problem()
    train, test = problem.rows(), problem.rows(80, prefix="t")
    linear = {name: replace(rows, targets=rows.features[:, :3]) for name, rows in train.items()}
    roles = {"z": ("bent", train), "b": ("linear", linear)}
    joint = fit_regressors(tiny_mlp(), roles, joint=True)
    apart = fit_regressors(tiny_mlp(), roles)
    assert [(role, one.target, one.shape) for role, one in joint.items()] == [
        ("z", "bent", (2, 2)),
        ("b", "linear", (3,)),
    ]
    assert r2(joint["z"], test)["sub-01"] > 0.5
    assert r2(joint["b"], {"sub-01": replace(test["sub-01"], targets=test["sub-01"].features[:, :3])})["sub-01"] > 0.5
    for role, one in joint.items():
        assert isinstance(one, Mlp)
        save_part(tmp_path / role, one)
        alone = load_regressor(tmp_path / role)
        assert isinstance(alone, Mlp)
        assert list(alone.network.heads) == ["role"], "nothing of the other role is kept"
        features = test["sub-01"].features
        assert np.array_equal(alone.predict("sub-01", features), one.predict("sub-01", features))
        assert not np.allclose(apart[role].predict("sub-01", features), one.predict("sub-01", features), atol=1e-3)
    trunks = [one.network.trunk.state_dict() for one in joint.values() if isinstance(one, Mlp)]
    assert all(torch.equal(value, trunks[1][name]) for name, value in trunks[0].items()), "hidden layers are shared"


def test_a_joint_loss_needs_both_targets_of_every_stimulus() -> None:
    train = Problem().rows(20)
    other = {"sub-01": replace(train["sub-01"], stimuli=["odd", "odd", *train["sub-01"].stimuli[2:]])}
    with pytest.raises(ModelError, match=r"sub-01: a joint loss .* z and b differ in 2, such as 'odd'; extract"):
        fit_regressors(tiny_mlp(), {"z": ("bent", train), "b": ("other", other)}, joint=True)
    turned = {"sub-01": replace(train["sub-01"], stimuli=train["sub-01"].stimuli[::-1])}
    with pytest.raises(ModelError, match=r"z and b differ in 0, such as 's0'; extract both again"):
        fit_regressors(tiny_mlp(), {"z": ("bent", train), "b": ("other", turned)}, joint=True)
    with pytest.raises(ModelError, match=r"needs something to share: regressor.kind is 'ridge', take 'mlp'"):
        fit_regressors(RidgeConfig(), {"z": ("bent", train)}, joint=True)


def test_components_bound_what_is_predicted() -> None:
    train = Problem().rows(60)
    made = fit_regressors(tiny_mlp(components=2, steps=20), {"z": ("bent", train)})["z"]
    predicted = made.predict("sub-01", train["sub-01"].features).reshape(-1, 4)
    assert np.linalg.matrix_rank(predicted - predicted.mean(axis=0), tol=1e-3) == 2
    config, _ = made.state()
    assert config["components"] == 2
    assert 0 < config["explained_variance"] < 1


def test_the_units_of_targets_and_features_do_not_matter() -> None:
    train = Problem().rows(60)["sub-01"]
    louder = TrainingRows(16 * train.features, 64 * train.targets, train.stimuli)
    one, other = (fit_regressors(tiny_mlp(steps=40), {"z": ("t", {"sub-01": of})})["z"] for of in (train, louder))
    made, expected = other.predict("sub-01", louder.features), 64 * one.predict("sub-01", train.features)
    assert np.allclose(made, expected, atol=1e-3 * expected.std())


def test_it_is_kept_without_loss_and_fitted_again_to_the_same_bytes(tmp_path: Path) -> None:
    train = Problem(voxels=BOTH).rows(40)

    def fit(seed: int) -> Mlp:
        made = fit_regressors(tiny_mlp(steps=40), {"z": ("bent", train)}, Context(seed))["z"]
        assert isinstance(made, Mlp)
        return made

    one = fit(1)
    digest = save_part(tmp_path / "one", one)
    loaded = load_regressor(tmp_path / "one")
    assert (loaded.target, loaded.shape, loaded.subjects, loaded.widths) == (
        one.target,
        one.shape,
        one.subjects,
        one.widths,
    )
    for name, rows in train.items():
        assert np.array_equal(loaded.predict(name, rows.features), one.predict(name, rows.features))
    assert save_part(tmp_path / "two", fit(1)) == save_part(tmp_path / "three", loaded) == digest
    assert save_part(tmp_path / "four", fit(2)) != digest


def test_a_stopped_fit_goes_on_to_the_same_weights_and_tells_its_losses(tmp_path: Path) -> None:
    train, heard = Problem().rows(40), {}
    roles = {"z": ("bent", train)}

    def stop(what: str, done: int, total: int, note: str) -> None:
        assert what == "z: perceptron for bent"
        if done == 33:
            raise KeyboardInterrupt

    def context(folder: str) -> Context:
        return Context(checkpoints=Checkpoints(tmp_path / folder), log=heard.__setitem__)

    with pytest.raises(KeyboardInterrupt), listening(stop):
        fit_regressors(tiny_mlp(steps=60), roles, context("stopped"))
    assert not heard
    made = fit_regressors(tiny_mlp(steps=60), roles, context("stopped"))["z"]
    assert list(heard) == ["z/perceptron"]
    told: History = heard["z/perceptron"]
    whole = fit_regressors(tiny_mlp(steps=60), roles, context("whole"))["z"]
    assert save_part(tmp_path / "a", made) == save_part(tmp_path / "b", whole)
    assert (len(told.losses), [at for at, _ in told.validation]) == (60, [25, 50])
    assert heard["z/perceptron"] == told


def test_too_few_stimuli_and_values_that_are_no_numbers_are_one_line() -> None:
    train = Problem().rows(3)
    with pytest.raises(ModelError, match="perceptron for bent: 3 training stimuli; at least 4 are needed to hold some"):
        fit_regressors(tiny_mlp(), {"z": ("bent", train)})
    rows = Problem().rows(20)["sub-01"]
    rows.features[:, 0] = np.nan
    with pytest.raises(ModelError, match="z: perceptron for bent: the loss is not a number at step 0; check the data"):
        fit_regressors(tiny_mlp(), {"z": ("bent", {"sub-01": rows})})
    rows = Problem().rows(20)["sub-01"]
    rows.targets[4] = np.nan
    with pytest.raises(ModelError, match="components: the targets hold NaN or infinity; extract them again"):
        fit_regressors(tiny_mlp(), {"z": ("bent", {"sub-01": rows})})
    with pytest.raises(ModelError, match=r"z: perceptron for bent: the loss is not a number at step \d+; .*lower lr"):
        fit_regressors(tiny_mlp(lr=1e30, clip=None), {"z": ("bent", Problem().rows(20))})
