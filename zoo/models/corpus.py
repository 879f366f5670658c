"""What the small world's models are trained on: clips with their captions, and what the captions name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError


@dataclass(frozen=True)
class Corpus:
    """Clips, in how many ways each may be described, and its attributes.

    Attributes
    ----------
    clips : ndarray, shape (n, frame, height, width, 3), uint8
    captions : list of n lists
        One or more captions each; the first is the canonical one, which a captioner learns to write.
    labels : ndarray, shape (n, attribute), int64
        What of each attribute's words holds.
    attributes : dict
        The words of each attribute, in the order of the labels' columns.
    """

    clips: NDArray[np.uint8]
    captions: list[list[str]]
    labels: NDArray[np.int64]
    attributes: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        shape, n = self.clips.shape, len(self.captions)
        if self.clips.dtype != np.uint8 or len(shape) != 5 or shape[-1] != 3 or shape[0] != n:
            raise ModelError(
                f"train-zoo: expected clips as uint8 (n, frame, height, width, 3) with captions for each, found "
                f"{self.clips.dtype} {shape} and captions of {n}"
            )

    @property
    def canonical(self) -> list[str]:
        """The first caption of every clip."""
        return [captions[0] for captions in self.captions]

    @property
    def every_caption(self) -> list[str]:
        """All captions of all clips, clip by clip."""
        return [caption for captions in self.captions for caption in captions]

    def columns(self, names: Sequence[str]) -> list[int]:
        """Return the labels' columns of some attributes."""
        order = list(self.attributes)
        return [order.index(name) for name in names]

    def seen_in_a_frame(self) -> list[str]:
        """Return the attributes that a single frame shows: all but those over time."""
        return [name for name in self.attributes if name not in OVER_TIME]


OVER_TIME = {"motion"}
"""Attributes that no single frame shows."""

Draw = Callable[[int, int], Corpus]
"""Gives a corpus of n fresh clips, from n and a seed."""
