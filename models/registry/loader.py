"""MLflow's way to load a registered part: a pyfunc whose loader reads safetensors and a config, never a pickle."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoders.build import Encoder, Regressor, load_encoder, load_regressor
from models.weights.tensor_file import load_weights


class EncoderModel:
    """Predicts features from responses; the subject is a parameter."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Return features (trial, feature) for responses (trial, voxel)."""
        return self._encoder.encode(_subject(params, self._encoder.subjects), np.asarray(model_input))


class RegressorModel:
    """Predicts one role's targets from features; the subject is a parameter."""

    def __init__(self, regressor: Regressor) -> None:
        self._regressor = regressor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Return predictions (row, *target shape) for features (row, feature)."""
        return self._regressor.predict(_subject(params, self._regressor.subjects), np.asarray(model_input))


def _load_pyfunc(data_path: str) -> EncoderModel | RegressorModel:
    folder = Path(data_path)
    config, _ = load_weights(folder)
    return EncoderModel(load_encoder(folder)) if config["part"] == "encoder" else RegressorModel(load_regressor(folder))


def _subject(params: dict[str, Any] | None, known: list[str]) -> str:
    named = (params or {}).get("subject") or known[0]
    return str(named)
