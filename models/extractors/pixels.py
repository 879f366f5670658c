"""The pixels of a clip, averaged over areas: the plainest target, decoded without any model."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError
from models.extractors.base import Clips, Values, check_any_clips, check_values

Channels = Literal["rgb", "grey"]

LUMA = np.asarray([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey value, as in ITU-R BT.601."""


class Pixels:
    """Area averages of the pixels, 0 to 1; see `models.extractors.base.Decoder`.

    Parameters
    ----------
    frames, height, width : int
        Size of the averaged clips; a clip of k times as many frames is averaged by k.
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

        Raises
        ------
        ModelError
            Not clips of uint8, or of a number of frames that is no multiple of the settings'.
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
