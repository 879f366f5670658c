"""A classifier of images, ViT (Dosovitskiy et al. 2021), asked of every frame of a clip."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from models.classifiers.preprocessing import Floats, load_processor, of_frames, prepared
from models.classifiers.settings import FrameClassifierConfig
from models.extractors.base import Clips
from models.extractors.key_frames import load_vision
from models.weights import locate
from models.weights.load import load_model, pick_device

NAME = "judges.frames"


@dataclass(frozen=True)
class FrameClassifier:
    """Says of every frame which class of image it shows.

    Attributes
    ----------
    model, processor : as transformers loads them
    config : FrameClassifierConfig
    """

    model: ViTForImageClassification
    processor: Any
    config: FrameClassifierConfig

    @classmethod
    def load(cls, config: FrameClassifierConfig, root: Path) -> "FrameClassifier":
        """Load what the settings name; see `FrameClassifierConfig.build`."""
        folder = locate.locate_files(config.weights, root, locate.VISION)
        settings: Any = load_vision(ViTConfig, folder, "vit")
        model = load_model(ViTForImageClassification, folder).to(pick_device(config.device))
        return cls(model, load_processor(ViTImageProcessorPil, folder, settings.image_size), config)

    def scores(self, clips: Clips) -> Floats:
        """Return log-probabilities (n, frame, class) of clips uint8 (n, frame, height, width, 3).

        Raises
        ------
        ModelError
            Not clips, or what is said of one is not finite.
        """
        return of_frames(NAME, clips, self.config.batch, self.model.config.num_labels, self._look)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _look(self, frames: NDArray[Any]) -> torch.Tensor:
        pixels = prepared(self.processor, list(frames)).to(self.model.device)
        logits: torch.Tensor = self.model(pixel_values=pixels).logits
        return logits.float().log_softmax(dim=-1)
