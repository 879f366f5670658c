"""What every extractor offers, and the checks and conversions that they share."""

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError

Clips = NDArray[np.uint8]
"""Clips of equal size: (n, frame, height, width, 3), RGB, 0 to 255."""

Captions = list[list[str]]
"""One or more captions of each stimulus."""

Values = NDArray[Any]

OverFrames = Literal["mean", "concatenate"]
"""What becomes of the key frames' states: their average, or one after the other, so that motion is kept."""


@runtime_checkable
class Extractor(Protocol):
    """Turns stimuli into values of one shape; each stimulus by itself, so the batch it came in never shows.

    Attributes
    ----------
    name : the extractor's name in a study
    shape : shape of one stimulus's values
    dtype : numpy.dtype
    revision : changes whenever the same stimulus may give other values
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    revision: str

    @property
    def reads(self) -> Literal["clips", "captions"]:
        """What `extract` takes."""

    def extract(self, batch: Any) -> Values:
        """Return the values of a batch, shape (n, *shape).

        Parameters
        ----------
        batch : uint8 (n, frame, height, width, 3) where `reads` is "clips", else n lists of captions.

        Raises
        ------
        ModelError
            The batch is not of the form that the extractor reads.
        """


@runtime_checkable
class Decoder(Extractor, Protocol):
    """An extractor whose values can be turned back into clips."""

    def decode(self, values: Values) -> Clips:
        """Return clips (n, frame, height, width, 3) of values (n, *shape)."""


@runtime_checkable
class CountsCut(Protocol):
    """An extractor of captions that cuts those which are too long for it."""

    def count_cut(self, captions: Captions) -> int:
        """Return how many captions are longer than it takes."""


def check_clips(name: str, batch: Any, frame: tuple[int, int, int]) -> None:
    """Raise unless a batch is clips of `frame` = (frames, height, width)."""
    expected = f"(n, {', '.join(map(str, frame))}, 3)"
    if not isinstance(batch, np.ndarray) or batch.dtype != np.uint8 or batch.shape[1:] != (*frame, 3):
        found = f"{batch.dtype} {batch.shape}" if isinstance(batch, np.ndarray) else type(batch).__name__
        raise ModelError(f"extractor {name}: expected clips as uint8 {expected}, found {found}; read them at that size")


def check_any_clips(name: str, batch: Any) -> None:
    """Raise unless a batch is clips, of whatever size."""
    if not isinstance(batch, np.ndarray) or batch.dtype != np.uint8 or batch.ndim != 5 or batch.shape[-1] != 3:
        found = f"{batch.dtype} {batch.shape}" if isinstance(batch, np.ndarray) else type(batch).__name__
        raise ModelError(
            f"extractor {name}: expected clips as uint8 (n, frame, height, width, 3), found {found}; "
            "read them with core.clips"
        )


def check_captions(name: str, batch: Any) -> None:
    """Raise unless a batch is one list of captions a stimulus, none of them empty."""
    if not isinstance(batch, list) or any(isinstance(captions, str) for captions in batch):
        raise ModelError(
            f"extractor {name}: expected a list of captions for each stimulus, found {type(batch).__name__}"
        )
    for index, captions in enumerate(batch):
        if not captions:
            raise ModelError(f"extractor {name}: stimulus {index} of the batch has no caption; add one to its source")


def check_values(name: str, values: Values, shape: tuple[int, ...]) -> None:
    """Raise unless values are (n, *shape) and finite."""
    if values.shape[1:] != shape:
        expected = f"(n, {', '.join(map(str, shape))})"
        raise ModelError(f"extractor {name}: expected values {expected}, found {values.shape}; check the axes' order")
    if not np.isfinite(values).all():
        raise ModelError(f"extractor {name}: the values to decode hold NaN or infinity; check what predicted them")


Channels = Literal["rgb", "grey"]

LUMA = np.asarray([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey value, as in ITU-R BT.601."""


class Pixels:
    """Area averages of the pixels, 0 to 1; see `models.extractors.base.Decoder`.

    Parameters
    ----------
    frames, height, width : size of the averaged clips; a clip of k times as many frames is averaged by k
    channels : "rgb" or "grey"
    """

    name = "pixels"
    reads: Literal["clips"] = "clips"
    revision = "pixels-1"
    dtype: np.dtype[Any] = np.dtype(np.float16)

    def __init__(self, frames: int, height: int, width: int, channels: Channels) -> None:
        self.frames, self.height, self.width, self.channels = frames, height, width, channels
        self.shape: tuple[int, ...] = (frames, 3 if channels == "rgb" else 1, height, width)

    def extract(self, batch: Any) -> Values:
        """Return clips (n, frame, height, width, 3) of any size as float16 (n, frame, channel, height, width).

        Raises `ModelError`: not clips of uint8, or of a number of frames that is no multiple of the settings'.
        """
        check_any_clips(self.name, batch)
        n, frames, height, width, _ = batch.shape
        if frames % self.frames:
            raise ModelError(
                f"extractor pixels: clips of {frames} frames cannot be averaged to {self.frames}; "
                "set frames to a divisor"
            )
        pixels = batch.reshape(n, self.frames, -1, height, width, 3).mean(axis=2) / 255
        rows, columns = area_weights(height, self.height), area_weights(width, self.width)
        pixels = np.einsum("ih,jw,nfhwc->nfijc", rows, columns, pixels, optimize=True)
        if self.channels == "grey":
            pixels = (pixels @ LUMA)[..., None]
        return np.asarray(np.moveaxis(pixels, -1, 2), dtype=self.dtype)

    def decode(self, values: Values) -> Clips:
        """Return clips uint8 (n, frame, height, width, 3) at the extractor's own size; values outside 0..1 are cut.

        Raises `ModelError`: values of another shape, or not finite.
        """
        check_values(self.name, values, self.shape)
        pixels = np.moveaxis(np.asarray(values, dtype=np.float32), 2, -1)
        pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
        return np.asarray(np.rint(np.clip(pixels, 0, 1) * 255), dtype=np.uint8)


def area_weights(size: int, target: int) -> NDArray[np.float64]:
    """Return the matrix (target, size) that averages `size` pixels over `target` equal intervals; its rows add to 1."""
    edges = np.arange(target + 1) * size / target
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.clip(overlap, 0, None) * target / size)
