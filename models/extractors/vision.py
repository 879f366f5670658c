"""The vision extractors: states of a clip's key frames by CLIP (Radford et al. 2021) and by BLIP (Li et al. 2022).

Each frame is shown to the model as the model's own image processor prepares it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipVisionConfig,
    CLIPImageProcessorPil,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

from core.errors import ModelError
from models.extractors.base import Clips, OverFrames, Values, check_any_clips
from models.weights.load import autocast, load_beside, load_model, load_settings, pick_device
from models.weights.locate import VISION, Device, Precision, locate_files, revision_of_files

V = TypeVar("V")
ClipOutput = Literal["pooled", "tokens"]
"""A frame's projected embedding, (width,), or the last layer's states, (token, width), the class token first."""


@dataclass(frozen=True)
class KeyFrames:
    """Which frames of a clip are shown to a model, and how their states are joined.

    Attributes
    ----------
    count : number of key frames, evenly spaced over the clip
    over_frames : whether their states are averaged or put one after the other
    dtype : what the network's products are computed in
    """

    count: int
    over_frames: OverFrames = "mean"
    dtype: Precision = "float32"

    def positions(self, name: str, available: int) -> NDArray[np.intp]:
        """Return the positions of the key frames: the middles of `count` equal parts of a clip, rounded down.

        Parameters
        ----------
        name : the extractor's, for the error
        available : frames of the clip

        Raises
        ------
        ModelError
            The clip has fewer frames than are wanted.
        """
        if self.count > available:
            raise ModelError(
                f"extractor {name}: clips of {available} frames do not have {self.count} key frames; lower the "
                "target's frames, or raise clips.frames"
            )
        return np.asarray((2 * np.arange(self.count) + 1) * available // (2 * self.count), dtype=np.intp)

    def joined_shape(self, states: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one stimulus's values, given that of one frame's states: (width,) or (token, width)."""
        if self.over_frames == "mean":
            return states
        return (self.count * (states[0] if len(states) == 2 else 1), states[-1])


class KeyFrameStates(ABC):
    """Vision states of key frames, averaged or one after the other; see `models.extractors.base.Extractor`.

    A clip's key frames go through the network together and no other clip's with them, so its values do not depend on
    its batch. Frames are prepared by Pillow, whatever else is installed: as the models' authors did, and to the
    same values everywhere.

    Parameters
    ----------
    model : the network that `states` calls
    processor : an image processor of transformers that works with Pillow
    size : height and width of what the model is shown
    """

    name: str
    reads: Literal["clips"] = "clips"
    dtype: np.dtype[Any] = np.dtype(np.float16)

    def __init__(
        self,
        model: torch.nn.Module,
        processor: Any,
        frames: KeyFrames,
        *,
        size: int,
        shape: tuple[int, ...],
        revision: str,
    ) -> None:
        self.model, self.processor, self.frames = model, processor, frames
        self.size, self.shape, self.revision = size, shape, revision
        self.device = next(model.parameters()).device
        self.prepare(np.zeros((1, size, size, 3), dtype=np.uint8))  # a processor of another size is found at once

    def extract(self, batch: Any) -> Values:
        """Return clips uint8 (n, frame, height, width, 3) of any size as float16 (n, *shape).

        Raises `ModelError`: not clips, clips of fewer frames than `frames`, or states beyond float16.
        """
        check_any_clips(self.name, batch)
        chosen = self.frames.positions(self.name, batch.shape[1])
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

        Raises `ModelError`: the image processor makes pictures of another size than the model is shown.
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
        with autocast(self.device, self.frames.dtype):
            states = self.states(self.prepare(frames).to(self.device)).float()
        joined = states.mean(0) if self.frames.over_frames == "mean" else states.flatten(0, -2)
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


class ClipStates(KeyFrameStates):
    """Projected embeddings or last hidden states of key frames; see `KeyFrameStates`.

    CLIP's image processor resizes the shorter side to the model's size and cuts out the middle. What a wide clip shows
    at its sides is not seen; where it should be, read clips at a square size with `fit: pad` or `fit: stretch`.
    """

    name = "clip"

    @classmethod
    def load(cls, weights: str, root: Path, output: ClipOutput, frames: KeyFrames, device: Device) -> Self:
        """Load the vision model of a folder or of the hub; see `ClipStatesConfig.build`."""
        folder = locate_files(weights, root, VISION)
        shape, size = clip_shape(folder, output, frames), clip_settings(folder).image_size
        kind = CLIPVisionModelWithProjection if output == "pooled" else CLIPVisionModel
        model, processor = load_model(kind, folder).to(pick_device(device)), load_beside(CLIPImageProcessorPil, folder)
        return cls(model, processor, frames, size=size, shape=shape, revision=revision_of_files(folder, VISION))

    def states(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the states of prepared frames, (n, 3, size, size), as (n, width) or (n, token, width)."""
        answer = self.model(pixel_values=pixels)
        projected = isinstance(self.model, CLIPVisionModelWithProjection)
        states: torch.Tensor = answer.image_embeds if projected else answer.last_hidden_state
        return states


@torch.no_grad()  # type: ignore[untyped-decorator]
def caption_embeddings(folder: Path, captions: list[str]) -> NDArray[np.float32]:
    """Return the projected embeddings of captions by a CLIP whose files lie in a folder, of unit length: (n, width)."""
    model, tokenizer = load_model(CLIPTextModelWithProjection, folder), load_beside(CLIPTokenizer, folder)
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    embeddings = torch.nn.functional.normalize(model(input_ids=tokens.input_ids).text_embeds, dim=1)
    values: NDArray[np.float32] = embeddings.numpy()
    return values


def clip_settings(folder: Path) -> CLIPVisionConfig:
    """Return the vision model's settings; raises as `load_vision` does."""
    return load_vision(CLIPVisionConfig, folder, "clip", "clip_vision_model")


def clip_shape(folder: Path, output: ClipOutput, frames: KeyFrames) -> tuple[int, ...]:
    """Return the shape of one stimulus's values by the folder's `config.json`; raises as `clip_settings` does."""
    vision = clip_settings(folder)
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    return frames.joined_shape((vision.projection_dim,) if output == "pooled" else (tokens, vision.hidden_size))


class BlipStates(KeyFrameStates):
    """Last hidden states of BLIP's vision model, after its layer norm, of key frames; see `KeyFrameStates`.

    They are what BLIP's text decoder attends to while it writes a caption: tokens (1 + patches, width), the class token
    first. Their average over frames is what the published Brain2Video code predicts. `models.captioners.blip` turns
    either form into words. BLIP's image processor stretches a picture to the model's square.
    """

    name = "blip"

    @classmethod
    def load(cls, weights: str, root: Path, image_size: int | None, frames: KeyFrames, device: Device) -> Self:
        """Load the vision model of a folder or of the hub; see `BlipStatesConfig.build`."""
        folder = locate_files(weights, root, VISION)
        shape, size = blip_shape(folder, image_size, frames), _blip_size(folder, image_size)
        processor = load_beside(BlipImageProcessorPil, folder)
        if image_size is not None:
            processor.size = {"height": size, "width": size}
        model = load_model(BlipForConditionalGeneration, folder).vision_model.to(pick_device(device))
        return cls(model, processor, frames, size=size, shape=shape, revision=revision_of_files(folder, VISION))

    def states(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the tokens of prepared frames, (n, 3, size, size), as (n, token, width)."""
        tokens: torch.Tensor = self.model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return tokens


def blip_settings(folder: Path) -> BlipVisionConfig:
    """Return the vision model's settings; raises as `load_vision` does."""
    return load_vision(BlipVisionConfig, folder, "blip")


def blip_shape(folder: Path, image_size: int | None, frames: KeyFrames) -> tuple[int, ...]:
    """Return the shape of one stimulus's values by the folder's `config.json`.

    Raises `ModelError`: `image_size` is no multiple of the model's patches, or `config.json` is not BLIP's.
    """
    vision = blip_settings(folder)
    tokens = (_blip_size(folder, image_size) // vision.patch_size) ** 2 + 1
    return frames.joined_shape((tokens, vision.hidden_size))


def _blip_size(folder: Path, image_size: int | None) -> int:
    """Return the height and width that the model is shown, in pixels."""
    vision = blip_settings(folder)
    size: int = image_size or vision.image_size
    if size % vision.patch_size:
        raise ModelError(
            f"extractor blip: image_size {size} is no multiple of the model's patches of {vision.patch_size}; change it"
        )
    return size
