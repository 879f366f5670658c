"""BLIP's image tokens: what its text decoder attends to while it writes a caption (Li et al. 2022)."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import BlipForConditionalGeneration, BlipImageProcessorPil, BlipVisionConfig

from core.errors import ModelError
from models.extractors.key_frames import KeyFrameStates, joined_shape, load_vision
from models.weights.load import load_beside, load_model, pick_device
from models.weights.locate import VISION, locate_files, revision_of_files

if TYPE_CHECKING:
    from models.extractors.settings import BlipStatesConfig


class BlipStates(KeyFrameStates):
    """Last hidden states of BLIP's vision model, after its layer norm, of key frames; see `KeyFrameStates`.

    Tokens are (1 + patches, width), the class token first; their average over frames is what the published Brain2Video
    code predicts. `models.captioners.blip` turns either form into words. BLIP's image processor stretches a picture to
    the model's square.
    """

    name = "blip"

    @classmethod
    def load(cls, config: "BlipStatesConfig", root: Path) -> "BlipStates":
        """Load the vision model that the settings name; see `BlipStatesConfig.build`."""
        folder = locate_files(config.weights, root, VISION)
        shape, size = shape_in(folder, config), size_in(folder, config)
        processor = load_beside(BlipImageProcessorPil, folder)
        if config.image_size is not None:
            processor.size = {"height": size, "width": size}
        return cls(
            load_model(BlipForConditionalGeneration, folder).vision_model.to(pick_device(config.device)),
            processor,
            config,
            size=size,
            shape=shape,
            revision=revision_of_files(folder, VISION),
        )

    def states(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the tokens of prepared frames, (n, 3, size, size), as (n, token, width)."""
        tokens: torch.Tensor = self.model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return tokens


def settings_in(folder: Path) -> BlipVisionConfig:
    """Return the vision model's settings; raises as `load_vision` does."""
    return load_vision(BlipVisionConfig, folder, "blip")


def size_in(folder: Path, config: "BlipStatesConfig") -> int:
    """Return the height and width that the model is shown, in pixels.

    Raises
    ------
    ModelError
        The settings' size is no multiple of the model's patches, or `config.json` is not BLIP's.
    """
    vision = settings_in(folder)
    size: int = config.image_size or vision.image_size
    if size % vision.patch_size:
        raise ModelError(
            f"extractor blip: image_size {size} is no multiple of the model's patches of {vision.patch_size}; change it"
        )
    return size


def shape_in(folder: Path, config: "BlipStatesConfig") -> tuple[int, ...]:
    """Return the shape of one stimulus's values by the folder's `config.json`; raises as `size_in` does."""
    vision = settings_in(folder)
    tokens = (size_in(folder, config) // vision.patch_size) ** 2 + 1
    return joined_shape((tokens, vision.hidden_size), config.frames, config.over_frames)
