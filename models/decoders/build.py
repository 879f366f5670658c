"""The parts of a model set, by kind: how each is fitted, saved, loaded, and asked for predictions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError
from core.protocols import require_members
from models.decoders.rows import BrainRows, FeatureCache, Rows, RowsByRole, row_blocks
from models.encoders.linear import Pca, Standardise
from models.encoders.mbm import Mbm
from models.encoders.settings import EncoderConfig
from models.regressors.mlp import Mlp
from models.regressors.residual import Residual
from models.regressors.ridge import Ridge
from models.regressors.settings import MlpConfig, RegressorConfig, RidgeConfig
from models.training.loop import ALONE, Context
from models.weights.tensor_file import Tensors, load_weights, save_weights


class Part(Protocol):
    """What encoders and regressors have in common."""

    @property
    def subjects(self) -> list[str]:
        """The subjects it knows."""

    @property
    def widths(self) -> tuple[int, int]:
        """Values of a row that go in and come out; -1 where subjects differ."""

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors."""


class Encoder(Part, Protocol):
    """Turns a subject's responses into features."""

    def encode(self, subject: str, responses: NDArray[Any]) -> NDArray[Any]:
        """Return features (trial, feature) float32."""


class Regressor(Part, Protocol):
    """Turns features into one role's targets."""

    @property
    def target(self) -> str:
        """Name of the target it predicts."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one stimulus's target."""

    def predict(self, subject: str, features: NDArray[Any]) -> NDArray[Any]:
        """Return predictions (row, *shape) float32."""


MADE_BY = ("fit", "from_state")
"""How a part is made: fitted, or read."""


def registered(part: str, protocol: type, kinds: dict[str, Any], config: Any) -> dict[str, Any]:
    """Return the classes of a part by kind, having made sure that they are whole and are those of its settings.

    Raises `ModelError` where a class lacks what `protocol` or `MADE_BY` names, or a kind of settings has no class.

    Parameters
    ----------
    config : the union of the settings of all kinds
    """
    for kind, made in kinds.items():
        require_members(made, f"{part} '{kind}'", [protocol], MADE_BY)
    for settings in get_args(get_args(config)[0]):
        kind = settings.model_fields["kind"].default
        if kind not in kinds:
            raise ModelError(
                f"{part} '{kind}': has settings ({settings.__name__}) and no class; name it in models/decoders/build.py"
            )
    return kinds


ENCODERS = registered("encoder", Encoder, {"standardise": Standardise, "pca": Pca, "mbm": Mbm}, EncoderConfig)
REGRESSORS = registered("regressor", Regressor, {"ridge": Ridge, "mlp": Mlp, "residual": Residual}, RegressorConfig)


def fit_encoder(config: EncoderConfig, rows: dict[str, BrainRows], context: Context = ALONE) -> Encoder:
    """Fit an encoder of the config's kind on the training rows of every subject."""
    encoder: Encoder = ENCODERS[config.kind].fit(config, rows, context)
    return encoder


def fit_regressors(
    config: RegressorConfig,
    roles: RowsByRole,
    context: Context = ALONE,
    *,
    joint: bool = False,
    features: FeatureCache | None = None,
) -> dict[str, Regressor]:
    """Fit a regressor of the config's kind for every role, on the training rows of every subject.

    Parameters
    ----------
    roles : by role, the target's name and the rows per subject
    joint : whether they share their hidden layers, which the kind `mlp` alone can
    features : where the rows of all roles have the same features: ridge then decomposes them once for all

    Raises
    ------
    ModelError
        Another kind is to be fitted jointly.
    """
    if joint and not isinstance(config, MlpConfig):
        raise ModelError(f"a joint loss needs something to share: regressor.kind is '{config.kind}', take 'mlp'")
    if isinstance(config, MlpConfig) and joint:
        return dict(Mlp.fit_jointly(config, roles, context.within("joint")))
    if isinstance(config, RidgeConfig):
        return dict(Ridge.fit_roles(config, roles, context, features))
    kind = REGRESSORS[config.kind]
    return {role: kind.fit(config, target, data, context.within(role)) for role, (target, data) in roles.items()}


def save_part(folder: Path, part: Encoder | Regressor, **record: Any) -> str:
    """Save a part with what is to be remembered beside it, and return the folder's digest."""
    config, tensors = part.state()
    return save_weights(folder, {**config, "record": record}, tensors)


def load_encoder(folder: Path) -> Encoder:
    """Load an encoder of any kind."""
    config, tensors = load_weights(folder)
    _require(folder, config, "encoder", list(ENCODERS))
    encoder: Encoder = ENCODERS[config["kind"]].from_state(config, tensors)
    return encoder


def load_regressor(folder: Path) -> Regressor:
    """Load a regressor of any kind."""
    config, tensors = load_weights(folder)
    _require(folder, config, "regressor", list(REGRESSORS))
    regressor: Regressor = REGRESSORS[config["kind"]].from_state(config, tensors)
    return regressor


def _require(folder: Path, config: dict[str, Any], part: str, kinds: list[str]) -> None:
    if config.get("part") != part or config.get("kind") not in kinds:
        found = f"{config.get('part')} of kind {config.get('kind')}"
        raise ModelError(f"{folder}: holds a {found}; expected an {part}, one of {', '.join(kinds)}")


TRIALS = 256
"""Trials predicted at once, fewer of whole brains: large targets need not all be held for every repetition."""


def encode_trials(encoder: Encoder, subject: str, responses: Rows) -> NDArray[np.float32]:
    """Return features (trial, feature) float32, a few trials at a time, so that `responses` may be a view of files."""
    features = np.empty((0, 0), np.float32)
    for block in row_blocks(responses, TRIALS):
        made = encoder.encode(subject, responses[block])
        if not block.start:
            features = np.empty_like(made, shape=(len(responses), made.shape[1]))
        features[block] = made
    return features


def predict_trials(
    encoder: Encoder, regressor: Regressor, subject: str, responses: Rows
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield some trials at a time, and their predictions (trial, *target shape) float32."""
    for block in row_blocks(responses, TRIALS):
        yield block, regressor.predict(subject, encoder.encode(subject, responses[block]))


def predict_stimuli(
    encoder: Encoder, regressor: Regressor, subject: str, responses: Rows, stimuli: Sequence[str]
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the stimuli in the order of first appearance, and the mean of their trials' predictions.

    Parameters
    ----------
    responses : (trial, voxel) or (trial, time, voxel), in memory or a view of files
    stimuli : the stimulus of each trial

    Returns
    -------
    names : list of str
    predictions : (stimulus, *target shape) float32
    """
    names = list(dict.fromkeys(stimuli))
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.array([row_of[name] for name in stimuli])
    total = np.zeros((len(names), *regressor.shape), np.float32)
    for block, predicted in predict_trials(encoder, regressor, subject, responses):
        np.add.at(total, rows[block], predicted)
    counts = np.bincount(rows).astype(np.float32)
    return names, total / counts.reshape(-1, *(1 for _ in regressor.shape))
