"""What the vision extractors share: a clip's key frames, shown to a model as its own image processor prepares them."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import ModelError
from models.extractors.base import Clips, Values, check_any_clips
from models.weights.load import autocast, load_settings

if TYPE_CHECKING:
    from models.extractors.settings import BlipStatesConfig, ClipStatesConfig, OverFrames

V = TypeVar("V")


class KeyFrameStates(ABC):
    """Vision states of key frames, averaged or one after the other; see `models.extractors.base.Extractor`.

    A clip's key frames go through the network together and no other clip's with them, so its bytes do not depend on the
    batch it came in. Frames are prepared by Pillow, whatever else is installed: as the models' authors did, and to the
    same values everywhere.

    Parameters
    ----------
    model : torch.nn.Module
        What `states` asks.
    processor : an image processor of transformers that works with Pillow
    config : ClipStatesConfig or BlipStatesConfig
        `frames`, `over_frames` and `dtype` are used here.
    size : int
        Height and width of what the model is shown.
    shape : tuple of int
    revision : str
    """

    name: str
    reads: Literal["clips"] = "clips"
    dtype: np.dtype[Any] = np.dtype(np.float16)

    def __init__(
        self,
        model: torch.nn.Module,
        processor: Any,
        config: "ClipStatesConfig | BlipStatesConfig",
        *,
        size: int,
        shape: tuple[int, ...],
        revision: str,
    ) -> None:
        self.model, self.processor, self.config = model, processor, config
        self.size, self.shape, self.revision = size, shape, revision
        self.device = next(model.parameters()).device
        self.prepare(np.zeros((1, size, size, 3), dtype=np.uint8))  # a processor of another size is found at once

    def extract(self, batch: Any) -> Values:
        """Return clips uint8 (n, frame, height, width, 3) of any size as float16 (n, *shape).

        Raises
        ------
        ModelError
            Not clips, clips of fewer frames than `frames`, or states beyond float16.
        """
        check_any_clips(self.name, batch)
        chosen = key_frames(self.name, batch.shape[1], self.config.frames)
        values = np.empty((len(batch), *self.shape), dtype=self.dtype)
        for row, clip in enumerate(batch):
            values[row] = self._of_frames(clip[chosen])
        if not np.isfinite(values).all():
            raise ModelError(
                f"extractor {self.name}: states are NaN or beyond float16's range; set dtype: float32, or other weights"
            )
        return values

    def prepare(self, frames: Clips) -> torch.Tensor:
        """Return frames (n, height, width, 3) uint8 as the model's pixels, (n, 3, size, size) float32.

        Raises
        ------
        ModelError
            The image processor makes pictures of another size than the model is shown.
        """
        settings = {"return_tensors": "pt", "input_data_format": "channels_last"}
        pixels: torch.Tensor = self.processor(list(frames), **settings)["pixel_values"]
        if pixels.shape[2:] != (self.size, self.size):
            found = " × ".join(map(str, pixels.shape[2:]))
            raise ModelError(
                f"extractor {self.name}: preprocessor_config.json makes pictures of {found}, the model is shown "
                f"{self.size} × {self.size}; fetch both files from the same model"
            )
        return pixels

    @abstractmethod
    def states(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the states of prepared frames, (n, 3, size, size), as (n, …, width)."""

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _of_frames(self, frames: Clips) -> Values:
        with autocast(self.device, self.config.dtype):
            states = self.states(self.prepare(frames).to(self.device)).float()
        joined = states.mean(0) if self.config.over_frames == "mean" else states.flatten(0, -2)
        values: Values = joined.half().cpu().numpy()
        return values


def load_vision(cls: type[V], folder: Path, *kinds: str) -> V:
    """Return a vision model's settings by the folder's `config.json`.

    Raises
    ------
    ModelError
        The file is damaged, describes none of the `kinds` of model, or one of pictures or patches that are not square.
    """
    vision: Any = load_settings(cls, folder, *kinds)
    if not (isinstance(vision.image_size, int) and isinstance(vision.patch_size, int)):
        raise ModelError(
            f"{folder}/config.json: pictures of {vision.image_size} in patches of {vision.patch_size}; expected one "
            "number each, as square ones have; name another model"
        )
    settings: V = vision
    return settings


def key_frames(name: str, available: int, wanted: int) -> NDArray[np.intp]:
    """Return the positions of key frames: the middles of `wanted` equal parts of a clip, rounded down.

    Parameters
    ----------
    name : str
        The extractor's, for the error.
    available, wanted : int
        Frames of the clip and key frames.

    Raises
    ------
    ModelError
        The clip has fewer frames than are wanted.
    """
    if wanted > available:
        raise ModelError(
            f"extractor {name}: clips of {available} frames do not have {wanted} key frames; lower the target's "
            "frames, or raise clips.frames"
        )
    return np.asarray((2 * np.arange(wanted) + 1) * available // (2 * wanted), dtype=np.intp)


def joined_shape(states: tuple[int, ...], frames: int, over_frames: "OverFrames") -> tuple[int, ...]:
    """Return the shape of one stimulus's values, given the shape of one frame's states, (width,) or (token, width)."""
    if over_frames == "mean":
        return states
    return (frames * (states[0] if len(states) == 2 else 1), states[-1])
