"""The standardising encoder: statistics from the training trials only, and clear refusals."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from core.errors import ModelError
from models.encoders.config import StandardiseConfig
from models.encoders.standardise import Standardise
from models.parts import load_encoder, save_part
from models.predict import predict_stimuli


def responses(rng: np.random.Generator, trials: int = 20) -> np.ndarray:
    return (rng.normal(size=(trials, 6)) * [1, 2, 3, 4, 5, 6] + 7).astype(np.float32)


def test_training_trials_come_out_standardised(rng: np.random.Generator) -> None:
    training = responses(rng)
    features = Standardise.fit(StandardiseConfig(), {"sub-01": training}).encode("sub-01", training)
    assert np.allclose(features.mean(0), 0, atol=1e-5)
    assert np.allclose(features.std(0), 1, atol=1e-5)


def test_other_trials_use_the_training_statistics(rng: np.random.Generator) -> None:
    training, other = responses(rng), responses(rng, 3)
    features = Standardise.fit(StandardiseConfig(), {"sub-01": training}).encode("sub-01", other)
    assert np.allclose(features, (other - training.mean(0)) / training.std(0), atol=1e-4)


def test_constant_and_nan_voxels_are_left_out(rng: np.random.Generator) -> None:
    training = responses(rng)
    training[:, 1] = 3
    training[4, 2] = np.nan
    encoder = Standardise.fit(StandardiseConfig(), {"sub-01": training})
    assert encoder.encode("sub-01", responses(rng, 2)).shape == (2, 4)
    with pytest.raises(ModelError, match="no voxel of 6 varies"):
        Standardise.fit(StandardiseConfig(), {"sub-01": np.ones((4, 6))})


def test_no_roi_at_all_is_no_choice() -> None:
    with pytest.raises(ValidationError, match="rois\n.*at least 1 item"):
        StandardiseConfig(rois=[])


def test_windows_are_averaged_over_time(rng: np.random.Generator) -> None:
    windows = rng.normal(size=(10, 4, 6)).astype(np.float32)
    encoder = Standardise.fit(StandardiseConfig(), {"sub-01": windows})
    assert np.allclose(encoder.encode("sub-01", windows), encoder.encode("sub-01", windows.mean(1)), atol=1e-5)


def test_what_does_not_fit_is_refused(rng: np.random.Generator) -> None:
    encoder = Standardise.fit(StandardiseConfig(), {"sub-01": responses(rng)})
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
    encoder = Standardise.fit(StandardiseConfig(), {"sub-01": training})
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
    encoder = Standardise.fit(StandardiseConfig(), {"sub-01": training})
    names = [f"s{i % 7}" for i in range(600)]
    stimuli, predicted = predict_stimuli(encoder, Sum(), "sub-01", training, names)
    features = encoder.encode("sub-01", training).sum(1)
    assert stimuli == [f"s{i}" for i in range(7)]
    assert np.allclose(predicted[:, 0], [features[i::7].mean() for i in range(7)], atol=1e-4)
