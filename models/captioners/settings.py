"""Settings of the captioners, by the key `kind`, and the captioner of the nearest stimulus; imports no torch."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

from core.config import Config
from core.errors import ModelError
from models.weights import locate
from models.weights.locate import Device, Precision

if TYPE_CHECKING:
    from models.captioners.blip import BlipCaptioner


TINY = 1e-12
BLOCK_VALUES = 2**24
"""Values of training states that are looked at together."""


class NearestCaption:
    """Answers a prediction with the caption of the training stimulus whose states correlate with it best.

    States and predictions are centred by the training mean first: what all captions share does not tell them apart. The
    states are read block by block, so that those of a whole dataset need not fit in memory.

    Parameters
    ----------
    states : ndarray or feature_store's rows, shape (n, ...)
        Conditioning states or image tokens of the training stimuli.
    captions : list of n strings

    Raises
    ------
    ModelError
        No stimulus, one of them without a caption, or states that are not finite.
    """

    def __init__(self, states: Any, captions: list[str]) -> None:
        if not captions or len(states) != len(captions):
            raise ModelError(
                f"captioner: found {len(captions)} captions for {len(states)} training stimuli; give one for each, "
                "and at least one"
            )
        self.captions = list(captions)
        self.shape: tuple[int, ...] = tuple(states.shape[1:])
        self._states = states
        self.mean = sum(rows.sum(axis=0) for rows in self._blocks()) / len(captions)

    def caption(self, predicted: NDArray[Any]) -> list[str]:
        """Return one caption a prediction; the first of the training set where several are equally near.

        Parameters
        ----------
        predicted : (m, ...) predicted conditioning states, of the training states' shape

        Raises
        ------
        ModelError
            Predictions of another shape, or not finite.
        """
        return [self.captions[index] for index in self.nearest(predicted)]

    def nearest(self, predicted: NDArray[Any]) -> NDArray[np.intp]:
        """Return the index of the nearest training stimulus of each prediction, shape (m,)."""
        rows = _directions(_rows(predicted, self.shape) - self.mean)
        near = [rows @ _directions(block - self.mean).T for block in self._blocks()]
        return np.asarray(np.argmax(np.concatenate(near, axis=1), axis=1), dtype=np.intp)

    def _blocks(self) -> Iterator[NDArray[np.float64]]:
        step = max(1, BLOCK_VALUES // max(1, math.prod(self.shape)))
        for start in range(0, len(self.captions), step):
            yield _rows(np.asarray(self._states[start : start + step]), self.shape)


def _rows(states: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    if states.shape[1:] != shape:
        raise ModelError(f"captioner: expected states of shape (m, {', '.join(map(str, shape))}), found {states.shape}")
    rows = np.asarray(states, dtype=np.float64).reshape(len(states), -1)
    if not np.isfinite(rows).all():
        raise ModelError(
            "captioner: the conditioning states hold NaN or infinity; check the regressor that predicted them"
        )
    return rows


def _directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows without their own mean and of unit length, so that a product of two is their correlation."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY))


MAX_REPETITION_PENALTY = 1.2


class NearestCaptionerConfig(Config):
    """The caption of the training stimulus whose target is nearest to the predicted one."""

    kind: Literal["nearest"] = "nearest"

    def revision(self, root: Path) -> str:
        """Return a constant: the captions come from the training targets, and count as such."""
        del root
        return "nearest"


class BlipCaptionerConfig(Config):
    """BLIP's text decoder, which writes captions of the image tokens that the extractor `blip` gives."""

    kind: Literal["blip"] = "blip"
    weights: str = ""
    """A folder with `config.json`, a tokenizer and safetensors, or a model's name on the hub; in a study, by default,
    those of the target in roles.b."""
    beams: PositiveInt = 1
    """Captions that are followed at once; 1 takes the likeliest token each time."""
    max_tokens: PositiveInt = 20
    """Largest number of tokens of a caption."""
    repetition_penalty: float = 1.0
    """What the scores of tokens already written are divided by, negative ones multiplied, 1 to 1.2; 1 leaves them."""
    batch: PositiveInt = 32
    """Captions written together; changes the speed and the memory."""
    dtype: Precision = "float32"
    device: Device = "auto"

    @field_validator("repetition_penalty")
    @classmethod
    def _keep_sentences(cls, value: float) -> float:
        if not 1 <= value <= MAX_REPETITION_PENALTY:
            raise ValueError(
                f"a penalty above {MAX_REPETITION_PENALTY} makes lists of keywords of sentences, and one below 1 "
                f"repetitions; choose 1 to {MAX_REPETITION_PENALTY}"
            )
        return value

    def build(self, root: Path) -> "BlipCaptioner":
        """Load the text decoder; a relative path in `weights` is resolved against `root`.

        Raises
        ------
        ModelError
            The weights are not there or pickled, or their decoder has fewer positions than `max_tokens`.
        """
        from models.captioners.blip import BlipCaptioner, Decoding

        decoding = Decoding(self.beams, self.max_tokens, self.repetition_penalty, self.batch, self.dtype)
        return BlipCaptioner.load(self.weights, root, decoding, self.device)

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return locate.revision_of_files(locate.locate_files(self.weights, root, locate.CAPTIONER), locate.CAPTIONER)


CaptionerConfig = Annotated[NearestCaptionerConfig | BlipCaptionerConfig, Field(discriminator="kind")]
"""Any captioner's config, by its `kind`."""
