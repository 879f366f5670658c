"""The parts of a model set, by kind: how each is saved, and how it is built again from what was saved."""

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from core.errors import ModelError
from models.encoders.config import EncoderConfig
from models.encoders.standardise import Standardise
from models.regressors.config import RegressorConfig
from models.regressors.ridge import Ridge
from models.regressors.rows import TrainingRows
from models.weights import Tensors, load_weights, save_weights


class Encoder(Protocol):
    """Turns a subject's responses into features."""

    @property
    def subjects(self) -> list[str]:
        """The subjects it knows."""
        ...

    @property
    def widths(self) -> tuple[int, int]:
        """Voxels that go in and features that come out; -1 where subjects differ."""
        ...

    def encode(self, subject: str, responses: NDArray[Any]) -> NDArray[Any]:
        """Return features (trial, feature) float32."""
        ...

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors."""
        ...


class Regressor(Protocol):
    """Turns features into one role's targets."""

    @property
    def target(self) -> str:
        """Name of the target it predicts."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one stimulus's target."""
        ...

    @property
    def subjects(self) -> list[str]:
        """The subjects it knows."""
        ...

    @property
    def widths(self) -> tuple[int, int]:
        """Features that go in and target values that come out; -1 where subjects differ."""
        ...

    def predict(self, subject: str, features: NDArray[Any]) -> NDArray[Any]:
        """Return predictions (row, *shape) float32."""
        ...

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors."""
        ...


ENCODERS = {"standardise": Standardise}
REGRESSORS = {"ridge": Ridge}


def fit_encoder(config: EncoderConfig, responses: dict[str, NDArray[Any]]) -> Encoder:
    """Fit an encoder of the config's kind on training trials, per subject (trial, voxel)."""
    return ENCODERS[config.kind].fit(config, responses)


def fit_regressor(config: RegressorConfig, target: str, data: dict[str, TrainingRows]) -> Regressor:
    """Fit a regressor of the config's kind for one target, on the training rows of every subject."""
    return REGRESSORS[config.kind].fit(config, target, data)


def load_part(folder: Path) -> Encoder | Regressor:
    """Load a part, whichever it is."""
    config, _ = load_weights(folder)
    return load_encoder(folder) if config.get("part") == "encoder" else load_regressor(folder)


def save_part(folder: Path, part: Encoder | Regressor, **record: Any) -> str:
    """Save a part with what is to be remembered beside it, and return the folder's digest."""
    config, tensors = part.state()
    return save_weights(folder, {**config, "record": record}, tensors)


def load_encoder(folder: Path) -> Encoder:
    """Load an encoder of any kind."""
    config, tensors = load_weights(folder)
    _require(folder, config, "encoder", list(ENCODERS))
    return ENCODERS[config["kind"]].from_state(config, tensors)


def load_regressor(folder: Path) -> Regressor:
    """Load a regressor of any kind."""
    config, tensors = load_weights(folder)
    _require(folder, config, "regressor", list(REGRESSORS))
    return REGRESSORS[config["kind"]].from_state(config, tensors)


def _require(folder: Path, config: dict[str, Any], part: str, kinds: list[str]) -> None:
    if config.get("part") != part or config.get("kind") not in kinds:
        found = f"{config.get('part')} of kind {config.get('kind')}"
        raise ModelError(f"{folder}: holds a {found}; expected an {part}, one of {', '.join(kinds)}")
