"""Components of targets: equal to scikit-learn's PCA, the same every time, kept without loss."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from core.errors import ModelError
from models.regressors import basis as module
from models.regressors.basis import Basis, first_rows
from models.weights.tensor_file import load_weights, save_weights

from .nonlinear import TrainingRows


def targets_of(seed: int, rows: int, values: int) -> np.ndarray:
    """Targets of full rank whose components' sizes fall by 0.8 from one to the next."""
    rng = np.random.default_rng(seed)
    rank = min(rows - 1, values)
    noise = rng.normal(size=(rows, rank))
    left = np.linalg.qr(noise - noise.mean(axis=0))[0]
    right = np.linalg.qr(rng.normal(size=(values, rank)))[0]
    return (10 * left * 0.8 ** np.arange(rank) @ right.T + rng.normal(size=values)).astype(np.float32)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(3, 20), st.integers(1, 40), st.integers(1, 25))
def test_components_equal_scikit_learns(seed: int, rows: int, values: int, components: int) -> None:
    targets = targets_of(seed, rows, values)
    ours = Basis.fit(targets, components)
    count = min(components, rows - 1, values)
    theirs = PCA(count, svd_solver="full").fit(targets.astype(np.float64))
    assert ours.vectors.shape == (count, values)
    assert np.allclose(ours.explained, theirs.explained_variance_ratio_, atol=1e-5)
    assert np.allclose(ours.vectors @ ours.vectors.T, np.eye(count), atol=1e-5)
    assert np.allclose(
        ours.expand(ours.project(targets)),
        theirs.inverse_transform(theirs.transform(targets.astype(np.float64))),
        atol=1e-4 * np.abs(targets).max(),
    )


def test_a_share_of_variance_takes_the_fewest_components_that_reach_it() -> None:
    targets = targets_of(0, 30, 50)
    everything = Basis.fit(targets, 1.0)
    assert len(everything.vectors) == 29
    assert everything.explained_variance == pytest.approx(1, abs=1e-6)
    some = Basis.fit(targets, 0.9)
    assert some.explained_variance >= 0.9
    assert Basis.fit(targets, len(some.vectors) - 1).explained_variance < 0.9


def test_blocks_of_values_and_the_order_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = targets_of(1, 12, 37)
    whole = Basis.fit(targets, 5)
    shuffled = Basis.fit(targets[np.random.default_rng(0).permutation(12)], 5)
    monkeypatch.setattr(module.blocks, "__defaults__", (10,))
    assert [part.stop - part.start for part in module.blocks(37)] == [10, 10, 10, 7]
    blocked = Basis.fit(targets, 5)
    for other in (shuffled, blocked):
        assert np.allclose(other.vectors, whole.vectors, atol=1e-5), "signs included"
        assert np.allclose(other.project(targets), whole.project(targets), atol=1e-4)


def test_each_stimulus_counts_once_however_often_and_by_whomever_it_was_seen() -> None:
    targets = targets_of(2, 6, 10).reshape(6, 2, 5)
    seen = {"sub-01": [0, 0, 0, 1, 2, 3], "sub-02": [3, 1, 4, 5, 5], "sub-03": [0, 2]}
    data = {
        subject: TrainingRows(np.zeros((len(rows), 1)), targets[rows], [f"s{row}" for row in rows])
        for subject, rows in seen.items()
    }
    ours, theirs = Basis.fit_rows(data, 4), Basis.fit(targets.reshape(6, 10), 4)
    assert np.allclose(ours.mean, theirs.mean, atol=1e-6)
    assert np.allclose(ours.vectors, theirs.vectors, atol=1e-5)
    assert first_rows(["b", "a", "b", "c", "a"]) == [0, 1, 3]


def test_more_components_than_the_targets_have_are_not_made_up() -> None:
    rng = np.random.default_rng(3)
    rank_two = (rng.normal(size=(20, 2)) @ rng.normal(size=(2, 30)) + 5).astype(np.float32).astype(np.float64)
    low = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 30)) + 5
    assert len(Basis.fit(low, 10).vectors) == 2
    assert len(Basis.fit(rank_two[:5], 10).vectors) <= 4


def test_bad_input_is_one_line() -> None:
    targets = targets_of(4, 5, 6)
    with pytest.raises(ModelError, match="targets hold NaN or infinity"):
        Basis.fit(np.where(targets > 0, np.nan, targets), 2)
    with pytest.raises(ModelError, match="all 5 training stimuli are the same"):
        Basis.fit(np.full((5, 6), 0.1), 2)
    with pytest.raises(ModelError, match="all 1 training stimuli are the same"):
        Basis.fit(targets[:1], 2)


def test_it_is_kept_without_loss(tmp_path: Path) -> None:
    basis = Basis.fit(targets_of(5, 8, 9), 3)
    save_weights(tmp_path / "one", {}, basis.state("low") | Basis.fit(targets_of(6, 8, 9), 2).state("high"))
    again = Basis.from_state(load_weights(tmp_path / "one")[1], "low")
    assert all(np.array_equal(getattr(again, name), getattr(basis, name)) for name in ("mean", "vectors", "explained"))
