"""Voxels are selected by what the training targets predict of them, and by training stimuli alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import Ridge as SklearnRidge

from core.errors import ModelError
from models.decoders.build import fit_encoder, load_encoder, save_part
from models.decoders.rows import BrainRows
from models.encoders.linear import Standardise
from models.encoders.settings import PcaConfig, StandardiseConfig, VoxelSelection
from models.encoders.voxel_selection import encoding_scores, select_voxels
from models.regressors.settings import RidgeConfig

TELLING = 12
"""The first voxels respond to the targets, the others to nothing."""


def responses(rng: np.random.Generator, stimuli: int = 60, voxels: int = 40, values: int = 5) -> tuple[Any, Any]:
    targets = rng.normal(size=(stimuli, values)).astype(np.float32)
    seen = rng.normal(size=(stimuli, voxels)).astype(np.float32)
    seen[:, :TELLING] += 2 * (targets @ rng.normal(size=(values, TELLING))).astype(np.float32)
    return seen, targets


def brain(seen: np.ndarray, **targets: np.ndarray) -> BrainRows:
    names = [f"s{row}" for row in range(len(seen))]
    found = {role: (lambda wanted, v=values: v[[names.index(n) for n in wanted]]) for role, values in targets.items()}
    return BrainRows(seen, names, targets=found)


def test_scores_are_those_of_encoding_models_fitted_without_each_stimulus(rng: np.random.Generator) -> None:
    seen, targets = responses(rng, 25, 20)
    centred = targets - targets.mean(0)
    unit = float((centred**2).sum() / len(centred))
    errors, predictions = [], []
    for alpha in RidgeConfig().alphas:
        made = np.empty_like(seen)
        for row in range(len(seen)):
            rest = np.arange(len(seen)) != row
            ridge = SklearnRidge(alpha=alpha * unit).fit(targets[rest], seen[rest])
            made[row] = ridge.predict(targets[[row]])[0]
        predictions.append(made)
        errors.append(float(((made - seen) ** 2).sum()))
    best = predictions[int(np.argmin(errors))]
    expected = [np.corrcoef(best[:, voxel], seen[:, voxel])[0, 1] for voxel in range(seen.shape[1])]
    assert np.allclose(encoding_scores(seen, targets), expected, atol=1e-4)


def test_the_voxels_that_respond_are_kept_and_the_others_are_not(rng: np.random.Generator) -> None:
    seen, targets = responses(rng)
    config = StandardiseConfig(voxels=VoxelSelection(fraction=TELLING / 40))
    encoder = fit_encoder(config, {"sub-01": brain(seen, z=targets)})
    assert isinstance(encoder, Standardise)
    assert np.flatnonzero(encoder.kept["sub-01"]).tolist() == list(range(TELLING))
    expected = ((seen - seen.mean(0)) / seen.std(0))[:, :TELLING]
    assert np.allclose(encoder.encode("sub-01", seen), expected, atol=1e-4)
    assert encoder.state()[0]["selected_voxels"]["sub-01"]["voxels"] == TELLING


def test_a_voxel_of_any_role_is_kept(rng: np.random.Generator) -> None:
    z, b = (rng.normal(size=(60, 4)).astype(np.float32) for _ in range(2))
    seen = rng.normal(size=(60, 20)).astype(np.float32)
    seen[:, 0] += 3 * z[:, 0]
    seen[:, 1] += 3 * b[:, 0]
    encoder = fit_encoder(StandardiseConfig(voxels=VoxelSelection(fraction=0.1)), {"a": brain(seen, z=z, b=b)})
    assert isinstance(encoder, Standardise)
    assert np.flatnonzero(encoder.kept["a"]).tolist() == [0, 1]


def test_repetitions_are_averaged_and_voxels_that_do_not_vary_are_passed_over(rng: np.random.Generator) -> None:
    seen, targets = responses(rng)
    seen[:, 3] = 1.0
    twice = BrainRows(
        np.concatenate([seen, seen]), [f"s{i % 60}" for i in range(120)], targets=brain(seen, z=targets).targets
    )
    encoder = fit_encoder(StandardiseConfig(voxels=VoxelSelection(fraction=0.25)), {"a": twice})
    assert isinstance(encoder, Standardise)
    kept = np.flatnonzero(encoder.kept["a"])
    assert len(kept) == 10
    assert 3 not in kept
    assert set(kept) < set(range(TELLING))


def test_a_fraction_is_chosen_where_several_are_given(rng: np.random.Generator) -> None:
    seen, targets = responses(rng, voxels=1000)
    chosen = select_voxels(VoxelSelection(fraction=[1.0, TELLING / 1000]), "a", seen, {"z": targets}, seed=0)
    assert chosen.fraction == TELLING / 1000
    assert chosen.tried[TELLING / 1000] > chosen.tried[1.0] > 0.5


def test_noise_is_not_identified_by_the_voxels_that_fit_it_best() -> None:
    # Had the voxels been scored on the stimuli that are held out, a small fraction of noise would identify them.
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        seen, targets = rng.normal(size=(40, 400)).astype("f4"), rng.normal(size=(40, 10)).astype("f4")
        tried = select_voxels(VoxelSelection(fraction=[1.0, 0.02]), "a", seen, {"z": targets}, seed).tried
        found.append(tried[0.02])
    assert 0.44 < np.mean(found) < 0.56


def test_of_equally_good_fractions_the_largest_is_taken(rng: np.random.Generator) -> None:
    targets = np.repeat(np.eye(2, 6, dtype=np.float32), 20, axis=0)  # two patterns that every voxel tells
    targets += 0.001 * rng.normal(size=targets.shape).astype(np.float32)
    seen = np.repeat(targets[:, :1], 8, axis=1)
    chosen = select_voxels(VoxelSelection(fraction=[0.5, 1.0]), "a", seen, {"z": targets}, seed=0)
    assert chosen.tried[0.5] == pytest.approx(chosen.tried[1.0])
    assert chosen.fraction == 1.0


def test_an_encoder_loads_as_it_was_saved(rng: np.random.Generator, tmp_path: Path) -> None:
    seen, targets = responses(rng)
    for config in (
        StandardiseConfig(voxels=VoxelSelection(fraction=[0.2, 0.5])),
        PcaConfig(components=5, voxels=VoxelSelection(fraction=0.2)),
    ):
        encoder = fit_encoder(config, {"sub-01": brain(seen, z=targets)})
        save_part(tmp_path / config.kind, encoder)
        loaded = load_encoder(tmp_path / config.kind)
        assert np.array_equal(loaded.encode("sub-01", seen), encoder.encode("sub-01", seen))
        assert loaded.state()[0] == encoder.state()[0]


def test_what_cannot_be_selected_by_is_refused(rng: np.random.Generator) -> None:
    seen, targets = responses(rng)
    config = StandardiseConfig(voxels=VoxelSelection())
    with pytest.raises(ModelError, match="a: voxels are to be selected .* none was given; fit the encoder within a"):
        fit_encoder(config, {"a": brain(seen)})
    with pytest.raises(ModelError, match="a: 9 training stimuli; voxels are selected on at least 10"):
        fit_encoder(config, {"a": brain(seen[:9], z=targets[:9])})
    with pytest.raises(ModelError, match="a: the training targets of z hold NaN"):
        fit_encoder(config, {"a": brain(seen, z=np.full_like(targets, np.nan))})
    for fraction in (0, 1.2, [], [0.5, 0]):
        with pytest.raises(ValidationError, match="above 0 and up to 1"):
            VoxelSelection(fraction=fraction)
