"""What a file of pictures is once it is open, and the background that its transparent pixels are laid on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BACKGROUND = (0, 0, 0)
"""The colour, RGB, that transparent pixels are laid on: black, as behind a video in a player and in `pad`."""


@dataclass(frozen=True)
class Media:
    """A file of pictures that is open: when each frame is shown, and the frames.

    Attributes
    ----------
    times_s : when each frame appears, in seconds, ascending; the first at 0
    duration_s : until the last frame ends; None for a single frame
    size : (width, height) of the first frame as it is shown: upright, with square pixels
    transparent : whether the first frame has transparent pixels
    pictures : given some frames' places, ascending, yields them in RGB, upright, with square pixels, on `BACKGROUND`;
        raises `SourceError` where one cannot be decoded
    """

    times_s: Sequence[float]
    duration_s: float | None
    size: tuple[int, int]
    transparent: bool
    pictures: Callable[[Sequence[int]], Iterator[Image.Image]]


def laid_on_background(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels (height, width, 4), RGB and straight alpha, as they look on `BACKGROUND`: (height, width, 3)."""
    alpha = pixels[..., 3:].astype(np.uint16)
    mixed = pixels[..., :3] * alpha + np.array(BACKGROUND, np.uint16) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)
