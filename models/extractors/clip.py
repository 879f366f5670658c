"""The states of a CLIP vision model: what of a picture goes with its words (Radford et al. 2021)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

from models.extractors.key_frames import KeyFrameStates, joined_shape, load_vision
from models.weights.load import load_beside, load_model, pick_device
from models.weights.locate import VISION, locate_files, revision_of_files

if TYPE_CHECKING:
    from models.extractors.settings import ClipStatesConfig


class ClipStates(KeyFrameStates):
    """Projected embeddings or last hidden states of key frames; see `KeyFrameStates`.

    CLIP's image processor resizes the shorter side to the model's size and cuts out the middle. What a wide clip shows
    at its sides is not seen; where it should be, read clips at a square size with `fit: pad` or `fit: stretch`.
    """

    name = "clip"
    config: "ClipStatesConfig"

    @classmethod
    def load(cls, config: "ClipStatesConfig", root: Path) -> "ClipStates":
        """Load the vision model that the settings name; see `ClipStatesConfig.build`."""
        folder = locate_files(config.weights, root, VISION)
        shape, size = shape_in(folder, config), settings_in(folder).image_size
        kind = CLIPVisionModelWithProjection if config.states == "pooled" else CLIPVisionModel
        return cls(
            load_model(kind, folder).to(pick_device(config.device)),
            load_beside(CLIPImageProcessorPil, folder),
            config,
            size=size,
            shape=shape,
            revision=revision_of_files(folder, VISION),
        )

    def states(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the states of prepared frames, (n, 3, size, size), as (n, width) or (n, token, width)."""
        answer = self.model(pixel_values=pixels)
        states: torch.Tensor = answer.image_embeds if self.config.states == "pooled" else answer.last_hidden_state
        return states


@torch.no_grad()  # type: ignore[untyped-decorator]
def caption_embeddings(folder: Path, captions: list[str]) -> NDArray[np.float32]:
    """Return the projected embeddings of captions by a CLIP whose files lie in a folder, of unit length: (n, width)."""
    model, tokenizer = load_model(CLIPTextModelWithProjection, folder), load_beside(CLIPTokenizer, folder)
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    embeddings = torch.nn.functional.normalize(model(input_ids=tokens.input_ids).text_embeds, dim=1)
    values: NDArray[np.float32] = embeddings.numpy()
    return values


def settings_in(folder: Path) -> CLIPVisionConfig:
    """Return the vision model's settings; raises as `load_vision` does."""
    return load_vision(CLIPVisionConfig, folder, "clip", "clip_vision_model")


def shape_in(folder: Path, config: "ClipStatesConfig") -> tuple[int, ...]:
    """Return the shape of one stimulus's values by the folder's `config.json`; raises as `settings_in` does."""
    vision = settings_in(folder)
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    states = (vision.projection_dim,) if config.states == "pooled" else (tokens, vision.hidden_size)
    return joined_shape(states, config.frames, config.over_frames)
