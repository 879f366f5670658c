"""The standardising encoder: statistics from the training trials only, and clear refusals."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelError
from models.decoders import rows
from models.decoders.build import fit_encoder, load_encoder, predict_stimuli, save_part
from models.decoders.rows import BrainRows
from models.encoders.linear import Standardise, mean_over_time, signal_share
from models.encoders.settings import StandardiseConfig
from models.regressors.ridge import fit_ridge


def responses(rng: np.random.Generator, trials: int = 20) -> np.ndarray:
    return (rng.normal(size=(trials, 6)) * [1, 2, 3, 4, 5, 6] + 7).astype(np.float32)


def fitted(training: np.ndarray, reliability: float = 0.0, repeats: int = 1) -> Standardise:
    """Return the encoder of one subject, whose stimuli were each shown `repeats` times in a row."""
    seen = BrainRows(training, [f"s{row // repeats}" for row in range(len(training))])
    encoder = fit_encoder(StandardiseConfig(reliability=reliability), {"sub-01": seen})
    assert isinstance(encoder, Standardise)
    return encoder


def test_training_trials_come_out_standardised(rng: np.random.Generator) -> None:
    training = responses(rng)
    features = fitted(training).encode("sub-01", training)
    assert np.allclose(features.mean(0), 0, atol=1e-5)
    assert np.allclose(features.std(0), 1, atol=1e-5)


def test_other_trials_use_the_training_statistics(rng: np.random.Generator) -> None:
    training, other = responses(rng), responses(rng, 3)
    features = fitted(training).encode("sub-01", other)
    assert np.allclose(features, (other - training.mean(0)) / training.std(0), atol=1e-4)


def test_constant_and_nan_voxels_are_left_out(rng: np.random.Generator) -> None:
    training = responses(rng)
    training[:, 1] = 3
    training[4, 2] = np.nan
    encoder = fitted(training)
    assert encoder.encode("sub-01", responses(rng, 2)).shape == (2, 4)
    with pytest.raises(ModelError, match="no voxel of 6 varies"):
        fitted(np.ones((4, 6)))


def test_windows_are_averaged_over_time(rng: np.random.Generator) -> None:
    windows = rng.normal(size=(10, 4, 6)).astype(np.float32)
    encoder = fitted(windows)
    assert np.allclose(encoder.encode("sub-01", windows), encoder.encode("sub-01", windows.mean(1)), atol=1e-5)


def test_what_does_not_fit_is_refused(rng: np.random.Generator) -> None:
    encoder = fitted(responses(rng))
    with pytest.raises(ModelError, match="does not know the subject 'sub-02'; did you mean 'sub-01'"):
        encoder.encode("sub-02", responses(rng))
    with pytest.raises(ModelError, match="have 5 voxels and the encoder was trained on 6"):
        encoder.encode("sub-01", responses(rng)[:, :5])
    damaged = responses(rng)
    damaged[0, 0] = np.nan
    with pytest.raises(ModelError, match="1 voxels hold NaN that had none in training"):
        encoder.encode("sub-01", damaged)


def test_it_is_kept_without_loss_and_not_mistaken(rng: np.random.Generator, tmp_path: Path) -> None:
    training = responses(rng)
    encoder = fitted(training)
    save_part(tmp_path / "e", encoder)
    assert np.array_equal(load_encoder(tmp_path / "e").encode("sub-01", training), encoder.encode("sub-01", training))
    (tmp_path / "e" / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="not a model of this project"):
        load_encoder(tmp_path / "e")


class Sum:
    """A regressor whose prediction is easy to tell."""

    target, shape = "t", (1,)

    def predict(self, subject: str, features: np.ndarray) -> np.ndarray:
        return features.sum(axis=1, keepdims=True)


def test_predictions_are_averaged_over_repetitions(rng: np.random.Generator) -> None:
    training = responses(rng, 600)
    encoder = fitted(training)
    names = [f"s{i % 7}" for i in range(600)]
    stimuli, predicted = predict_stimuli(encoder, Sum(), "sub-01", training, names)
    features = encoder.encode("sub-01", training).sum(1)
    assert stimuli == [f"s{i}" for i in range(7)]
    assert np.allclose(predicted[:, 0], [features[i::7].mean() for i in range(7)], atol=1e-4)


def repeated(
    rng: np.random.Generator, ncsnr: np.ndarray, stimuli: int = 400, repeats: int = 3
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Trials of voxels whose signal is `ncsnr` times as wide as their noise, the stimulus of each, and their signal."""
    signal = np.repeat(rng.normal(size=(stimuli, len(ncsnr))) * ncsnr, repeats, axis=0)
    names = [f"s{row // repeats}" for row in range(len(signal))]
    order = rng.permutation(len(signal))
    trials = 5 + 3 * (signal + rng.normal(size=signal.shape))
    return trials[order].astype(np.float32), [names[row] for row in order], signal[order]


@pytest.mark.parametrize("repeats", [2, 5])
def test_the_share_of_signal_is_that_of_the_simulation(rng: np.random.Generator, repeats: int) -> None:
    ncsnr = np.array([0.0, 0.2, 0.5, 1.0, 2.0])
    trials, names, _ = repeated(rng, ncsnr, stimuli=3000, repeats=repeats)
    assert np.allclose(signal_share("sub-01", trials, names), ncsnr**2 / (1 + ncsnr**2), atol=0.02)


def test_unequal_numbers_of_repetitions_do_not_bias_the_share(rng: np.random.Generator) -> None:
    trials, names, _ = repeated(rng, np.array([0.0, 0.5, 1.0]), stimuli=4000, repeats=4)
    kept = rng.random(len(trials)) < 0.5
    found = signal_share("sub-01", trials[kept], [name for name, keep in zip(names, kept, strict=True) if keep])
    assert np.allclose(found, [0, 0.2, 0.5], atol=0.02)


def test_voxels_are_weighted_by_a_power_of_their_share(rng: np.random.Generator) -> None:
    trials, names, _ = repeated(rng, np.array([0.1, 1.0, 3.0]))
    trials[:, 1:] = trials[:, [2, 1]]
    constant = np.concatenate([np.ones((len(trials), 1), np.float32), trials], axis=1)
    rows = {"sub-01": BrainRows(constant, names)}
    plain = Standardise.fit(StandardiseConfig(), rows)
    assert plain.weight["sub-01"].tolist() == [1, 1, 1]
    for power in (0.5, 2.0):
        weighted = Standardise.fit(StandardiseConfig(reliability=power), rows)
        share = signal_share("sub-01", plain.encode("sub-01", constant).astype(np.float64), names)
        assert np.allclose(weighted.weight["sub-01"], share**power, rtol=1e-4)
        expected = plain.encode("sub-01", constant) * share**power
        assert np.allclose(weighted.encode("sub-01", constant), expected, atol=1e-4)
        assert np.allclose(weighted.standardised("sub-01", constant), plain.encode("sub-01", constant))


def test_weights_help_where_most_voxels_are_noise(rng: np.random.Generator) -> None:
    """The first 20 of 300 voxels carry the targets; what ridge makes of held-out stimuli tells whether it knows."""
    trials, names, _ = repeated(rng, np.repeat([0.0], 300), stimuli=160, repeats=3)
    causes = np.random.default_rng(1).normal(size=(160, 5))
    shown = causes[[int(name[1:]) for name in names]]
    trials[:, :20] += 3 * (shown @ rng.normal(size=(5, 20))) / 5**0.5
    inside = np.array([int(name[1:]) < 80 for name in names])
    training = BrainRows(trials[inside], [name for name in names if int(name[1:]) < 80])
    correlation = {}
    for power in (0.0, 1.0):
        encoder = Standardise.fit(StandardiseConfig(reliability=power), {"sub-01": training})
        features = encoder.encode("sub-01", training.responses)
        ridge = fit_ridge(features, shown[inside], training.stimuli, [10.0**k for k in range(-3, 4)])
        made = ridge.predict(encoder.encode("sub-01", trials[~inside]))
        correlation[power] = np.corrcoef(made.ravel(), shown[~inside].ravel())[0, 1]
    assert correlation[1.0] > correlation[0.0] + 0.03


def test_weights_are_kept_with_the_encoder(rng: np.random.Generator, tmp_path: Path) -> None:
    trials, names, _ = repeated(rng, np.array([0.1, 1.0, 3.0]), stimuli=20)
    encoder = Standardise.fit(StandardiseConfig(reliability=1), {"sub-01": BrainRows(trials, names)})
    save_part(tmp_path / "e", encoder)
    assert np.array_equal(load_encoder(tmp_path / "e").encode("sub-01", trials), encoder.encode("sub-01", trials))


def test_without_repetitions_there_is_no_reliability(rng: np.random.Generator) -> None:
    with pytest.raises(ModelError, match="sub-01: no training stimulus was repeated, so voxels cannot be weighted"):
        fitted(responses(rng), reliability=1.0)
    assert fitted(responses(rng), reliability=1.0, repeats=2).weight["sub-01"].shape == (6,)


@pytest.mark.parametrize("block", [1, 7 * 8 * 6, 2**26])
def test_blocks_of_trials_give_what_numpy_gives_of_all_to_the_last_bit(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", block)
    for training in (responses(rng), rng.normal(size=(20, 3, 6)).astype(np.float32)):
        training[3, ..., 1] = np.inf
        flat = mean_over_time(training).astype(np.float64)
        encoder, kept = fitted(training, reliability=0.5, repeats=2), np.array([0, 2, 3, 4, 5])
        assert list(np.flatnonzero(encoder.kept["sub-01"])) == list(kept)
        assert np.array_equal(encoder.mean["sub-01"][kept], flat[:, kept].mean(axis=0).astype(np.float32))
        assert np.array_equal(encoder.scale["sub-01"][kept], flat[:, kept].std(axis=0).astype(np.float32))
        names = [f"s{row // 2}" for row in range(20)]
        share = signal_share("sub-01", flat[:, kept] / flat[:, kept].std(axis=0), names)
        assert np.allclose(encoder.weight["sub-01"], share**0.5, atol=1e-7)


def test_parts_of_the_features_are_those_of_the_whole(rng: np.random.Generator) -> None:
    training = responses(rng)
    training[:, 1] = 3
    encoder = fitted(training, reliability=1, repeats=2)
    parts = [encoder.encode_part("sub-01", training[:, part], part) for part in (slice(0, 3), slice(3, 6))]
    assert np.array_equal(np.concatenate(parts, axis=1), encoder.encode("sub-01", training))
