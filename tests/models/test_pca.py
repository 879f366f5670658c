"""The encoder of principal components: recordings without a stimulus bring its components nearer to the truth."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelError
from models.decoders import rows
from models.decoders.build import fit_encoder, load_encoder, save_part
from models.decoders.rows import BrainRows
from models.encoders import linear
from models.encoders.linear import Pca
from models.encoders.settings import PcaConfig

CAUSES = 3


def recorded(
    rng: np.random.Generator, trials: int, unlabelled: int | None, voxels: int = 40, loads: np.ndarray | None = None
) -> BrainRows:
    """Rows of a few causes, each of which moves many voxels, and noise; as many of them without a stimulus."""
    loads = rng.normal(size=(CAUSES, voxels)) if loads is None else loads
    count = trials + (unlabelled or 0)
    rows = rng.normal(size=(count, CAUSES)) @ loads + rng.normal(size=(count, voxels)) + 3
    names = [f"s{row}" for row in range(trials)]
    rest = None if unlabelled is None else rows[trials:].astype(np.float32)
    return BrainRows(rows[:trials].astype(np.float32), names, unlabelled=rest)


def fit(rows: BrainRows, components: int = CAUSES) -> Pca:
    encoder = fit_encoder(PcaConfig(components=components), {"sub-01": rows})
    assert isinstance(encoder, Pca)
    return encoder


def found(encoder: Pca, loads: np.ndarray) -> float:
    """The part of the true subspace, in standardised voxels, that the components span: from 0 to 1."""
    truth = np.linalg.qr((loads / encoder.standardise.scale["sub-01"]).T)[0]
    return float(np.square(truth.T @ encoder.vectors["sub-01"]).sum() / CAUSES)


def test_rows_without_a_stimulus_bring_the_components_nearer_to_the_truth(rng: np.random.Generator) -> None:
    loads = rng.normal(size=(CAUSES, 40))
    few = recorded(rng, 12, 600, loads=loads)
    alone = found(fit(BrainRows(few.responses, few.stimuli)), loads)
    assert found(fit(few), loads) > 0.95
    assert found(fit(few), loads) > alone + 0.05


@pytest.mark.parametrize("trials", [25, 90])
def test_components_are_those_of_a_singular_value_decomposition(rng: np.random.Generator, trials: int) -> None:
    """Whether there are fewer rows than voxels or more."""
    rows = recorded(rng, trials, None)
    encoder = fit(rows, 10)
    centred = encoder.standardise.encode("sub-01", rows.responses)
    centred = centred - centred.mean(axis=0)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(np.sum(encoder.vectors["sub-01"] * vectors[:10].T, axis=0)), 1, atol=1e-3)
    assert np.allclose(encoder.explained["sub-01"], values[:10] ** 2 / (values**2).sum(), atol=1e-4)
    features = encoder.encode("sub-01", rows.responses)
    assert np.allclose(features.var(axis=0), values[:10] ** 2 / trials, rtol=1e-3)


def test_there_are_no_more_components_than_rows_or_voxels_can_have(rng: np.random.Generator) -> None:
    assert fit(recorded(rng, 9, None), 100).widths == (40, 8)
    assert fit(recorded(rng, 90, None), 100).widths == (40, 40)
    one = recorded(rng, 20, None, voxels=1)
    assert fit(one, 5).encode("sub-01", one.responses).shape == (20, 1)


def test_subjects_have_voxels_and_components_of_their_own(rng: np.random.Generator) -> None:
    rows = {"sub-01": recorded(rng, 30, None, 20), "sub-02": recorded(rng, 30, 50, 33)}
    encoder = fit_encoder(PcaConfig(components=5), rows)
    assert encoder.subjects == ["sub-01", "sub-02"]
    assert encoder.widths == (-1, 5)
    assert encoder.encode("sub-02", rows["sub-02"].responses).shape == (30, 5)
    alone = fit_encoder(PcaConfig(components=5), {"sub-02": rows["sub-02"]})
    again = alone.encode("sub-02", rows["sub-02"].responses)
    assert np.array_equal(encoder.encode("sub-02", rows["sub-02"].responses), again)


def test_windows_are_averaged_over_time(rng: np.random.Generator) -> None:
    trials = rng.normal(size=(20, 4, 6)).astype(np.float32)
    rest = rng.normal(size=(30, 4, 6)).astype(np.float32)
    names = [f"s{row}" for row in range(20)]
    whole = fit(BrainRows(trials, names, unlabelled=rest))
    flat = fit(BrainRows(trials.mean(axis=1), names, unlabelled=rest.mean(axis=1)))
    assert np.allclose(whole.encode("sub-01", trials), flat.encode("sub-01", trials.mean(axis=1)), atol=1e-4)


def test_noisy_voxels_can_be_weighted_down(rng: np.random.Generator) -> None:
    loads = np.concatenate([rng.normal(size=(CAUSES, 20)), np.zeros((CAUSES, 20))], axis=1)
    causes = np.repeat(rng.normal(size=(60, CAUSES)), 2, axis=0)
    shared = np.outer(rng.normal(size=120), np.r_[np.zeros(20), np.ones(20)])  # the loudest component, and only noise
    responses = causes @ loads + 4 * shared + rng.normal(size=(120, 40))
    rows = {"sub-01": BrainRows(responses.astype(np.float32), [f"s{row // 2}" for row in range(120)])}
    plain, weighted = (fit_encoder(PcaConfig(components=1, reliability=power), rows) for power in (0.0, 1.0))
    assert isinstance(plain, Pca)
    assert isinstance(weighted, Pca)
    assert np.square(plain.vectors["sub-01"][20:]).sum() > 0.9
    assert np.square(weighted.vectors["sub-01"][20:]).sum() < 0.1


def test_it_is_kept_without_loss_and_fitted_again_to_the_same_bytes(rng: np.random.Generator, tmp_path: Path) -> None:
    rows = recorded(rng, 30, 40)
    encoder = fit(rows)
    digest = save_part(tmp_path / "one", encoder)
    loaded = load_encoder(tmp_path / "one")
    assert loaded.widths == encoder.widths == (40, CAUSES)
    assert np.array_equal(loaded.encode("sub-01", rows.responses), encoder.encode("sub-01", rows.responses))
    assert save_part(tmp_path / "two", fit(rows)) == save_part(tmp_path / "three", loaded) == digest


def test_what_does_not_fit_is_refused(rng: np.random.Generator) -> None:
    rows = recorded(rng, 30, 40)
    encoder = fit(rows)
    with pytest.raises(ModelError, match="does not know the subject 'sub-02'; did you mean 'sub-01'"):
        encoder.encode("sub-02", rows.responses)
    with pytest.raises(ModelError, match="have 39 voxels and the encoder was trained on 40"):
        encoder.encode("sub-01", rows.responses[:, :39])
    assert rows.unlabelled is not None
    rows.unlabelled[3, 5] = np.nan
    with pytest.raises(ModelError, match="sub-01: 1 voxels hold NaN that had none in training"):
        fit(rows)


def test_voxels_a_few_at_a_time_give_the_same_components(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = recorded(rng, 12, 14)
    given.responses[:, 7] = 1
    whole = fit(given)
    monkeypatch.setattr(linear, "WHOLE_BYTES", 0)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 9 * 8 * 26)
    parts = fit(given)
    assert np.allclose(parts.vectors["sub-01"], whole.vectors["sub-01"], atol=1e-5)
    assert np.allclose(parts.explained["sub-01"], whole.explained["sub-01"], atol=1e-6)
    assert not np.array_equal(parts.vectors["sub-01"], whole.vectors["sub-01"]), "another order of summation"
