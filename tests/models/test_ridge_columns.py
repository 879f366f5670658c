"""Repeated fits on some of the columns are the ridge's own, whatever is wider."""

import numpy as np
import pytest

from core.errors import ModelError
from models.regressors.basis import Basis
from models.regressors.ridge import fit_ridge
from models.regressors.ridge_columns import fit_columns
from models.regressors.settings import RidgeConfig


def data(rng: np.random.Generator, rows: int, features: int, targets: int = 30) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(rows, features)).astype(np.float32)
    y = x[:, :4] @ rng.normal(size=(4, targets)) + 2 * rng.normal(size=(rows, targets)) + 3
    return x, y.astype(np.float32)


@pytest.mark.parametrize("features", [5, 39, 40, 41, 200])
def test_a_fit_is_that_of_the_ridge(rng: np.random.Generator, features: int) -> None:
    x, y = data(rng, 40, features)
    names, config = [f"s{row}" for row in range(40)], RidgeConfig()
    made, wanted = fit_columns(x, y, names, config), fit_ridge(x, y, names, config.alphas)
    assert made.alphas == wanted.alphas
    np.testing.assert_allclose(made.errors, wanted.errors, rtol=2e-3)
    new = rng.normal(size=(7, features)).astype(np.float32)
    np.testing.assert_allclose(made.predict(new), wanted.predict(new), atol=2e-4)


def test_all_components_of_the_targets_change_neither_penalty_nor_prediction(rng: np.random.Generator) -> None:
    x, y = data(rng, 40, 60, 500)
    names, config = [f"s{row}" for row in range(40)], RidgeConfig()
    basis = Basis.fit(y, 40)
    made, wanted = fit_columns(x, basis.project(y), names, config), fit_ridge(x, y, names, config.alphas)
    assert made.alphas == wanted.alphas
    np.testing.assert_allclose(basis.expand(made.predict(x)), wanted.predict(x), atol=2e-3)


@pytest.mark.parametrize(
    "settings", [{"penalty_per": "target"}, {"criterion": "gcv"}, {}], ids=["a target", "gcv", "repeated"]
)
def test_what_has_no_shortcut_is_the_ridge_itself(rng: np.random.Generator, settings: dict[str, str]) -> None:
    x, y = data(rng, 40, 10)
    names = [f"s{row if settings else row // 2}" for row in range(40)]
    config = RidgeConfig.model_validate(settings)
    wanted = fit_ridge(x, y, names, config.alphas, criterion=config.criterion, penalty_per=config.penalty_per)
    assert np.array_equal(fit_columns(x, y, names, config).weights, wanted.weights)


def test_what_cannot_be_fitted_is_refused_as_by_the_ridge(rng: np.random.Generator) -> None:
    x, y = data(rng, 10, 4)
    names = [f"s{row}" for row in range(10)]
    with pytest.raises(ModelError, match="do not vary"):
        fit_columns(np.ones_like(x), y, names, RidgeConfig())
    x[3, 1] = np.nan
    with pytest.raises(ModelError, match="1 of 10 feature rows hold NaN"):
        fit_columns(x, y, names, RidgeConfig())
