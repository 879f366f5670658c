"""MLflow's way to load a registered part: a pyfunc whose loader reads safetensors and a config, never a pickle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoders.build import load_encoder, load_regressor
from models.weights.tensor_file import load_weights


class PartModel:
    """A part as MLflow calls it; the subject is a parameter.

    Parameters
    ----------
    apply : takes a subject and rows; an encoder's gives features (trial, feature) for responses (trial, voxel), a
        regressor's predictions (row, *target shape) for features (row, feature)
    subjects : the first one is the default
    """

    def __init__(self, apply: Callable[[str, NDArray[Any]], NDArray[Any]], subjects: list[str]) -> None:
        self._apply, self._subjects = apply, subjects

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> NDArray[Any]:
        """Return what the part gives for rows of one subject."""
        subject = (params or {}).get("subject") or self._subjects[0]
        return self._apply(str(subject), np.asarray(model_input))


def _load_pyfunc(data_path: str) -> PartModel:
    folder = Path(data_path)
    config, _ = load_weights(folder)
    if config["part"] == "encoder":
        encoder = load_encoder(folder)
        return PartModel(encoder.encode, encoder.subjects)
    regressor = load_regressor(folder)
    return PartModel(regressor.predict, regressor.subjects)
