"""The pixels of a clip, averaged over areas: the plainest target, decoded without any model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError
from models.extractors.base import Clips, Values, check_any_clips, check_values

if TYPE_CHECKING:
    from models.extractors.settings import PixelsConfig

LUMA = np.asarray([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey value, as in ITU-R BT.601."""


class Pixels:
    """Area averages of the pixels, 0 to 1; see `models.extractors.base.Decoder`."""

    name = "pixels"
    reads: Literal["clips"] = "clips"
    revision = "pixels-1"
    dtype: np.dtype[Any] = np.dtype(np.float16)

    def __init__(self, config: "PixelsConfig") -> None:
        self.config = config
        self.shape = config.shape(Path())

    def extract(self, batch: Any) -> Values:
        """Return clips (n, frame, height, width, 3) of any size as float16 (n, frame, channel, height, width).

        Raises
        ------
        ModelError
            Not clips of uint8, or of a number of frames that is no multiple of the settings'.
        """
        config = self.config
        check_any_clips(self.name, batch)
        n, frames, height, width, _ = batch.shape
        if frames % config.frames:
            raise ModelError(
                f"extractor pixels: clips of {frames} frames cannot be averaged to {config.frames}; "
                "set frames to a divisor"
            )
        pixels = batch.reshape(n, config.frames, -1, height, width, 3).mean(axis=2) / 255
        rows, columns = area_weights(height, config.height), area_weights(width, config.width)
        pixels = np.einsum("ih,jw,nfhwc->nfijc", rows, columns, pixels, optimize=True)
        if config.channels == "grey":
            pixels = (pixels @ LUMA)[..., None]
        return np.asarray(np.moveaxis(pixels, -1, 2), dtype=self.dtype)

    def decode(self, values: Values) -> Clips:
        """Return clips uint8 (n, frame, height, width, 3) at the extractor's own size; values outside 0..1 are cut.

        Raises
        ------
        ModelError
            Values of another shape, or not finite.
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
