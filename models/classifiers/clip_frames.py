"""CLIP (Radford et al. 2021) as a judge: every frame and every caption as a vector in one space."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from models.classifiers.preprocessing import Floats, batches, finite, load_processor, of_frames, prepared
from models.classifiers.settings import CLIP_FILES, ClipFramesConfig
from models.extractors.base import Clips
from models.extractors.clip import settings_in
from models.weights import locate
from models.weights.load import load_beside, load_model, pick_device

NAME = "judges.clip"


@dataclass(frozen=True)
class ClipFrames:
    """Embeds frames and captions.

    Attributes
    ----------
    vision, text, processor, tokenizer : as transformers loads them
    config : ClipFramesConfig
    """

    vision: CLIPVisionModelWithProjection
    text: CLIPTextModelWithProjection
    processor: Any
    tokenizer: Any
    config: ClipFramesConfig

    @classmethod
    def load(cls, config: ClipFramesConfig, root: Path) -> "ClipFrames":
        """Load what the settings name; see `ClipFramesConfig.build`."""
        folder = locate.locate_files(config.weights, root, CLIP_FILES)
        size = settings_in(folder).image_size
        device = pick_device(config.device)
        return cls(
            load_model(CLIPVisionModelWithProjection, folder).to(device),
            load_model(CLIPTextModelWithProjection, folder).to(device),
            load_processor(CLIPImageProcessorPil, folder, size),
            load_beside(CLIPTokenizer, folder),
            config,
        )

    def frames(self, clips: Clips) -> Floats:
        """Return the embedding of every frame, of unit length: (n, frame, width).

        Parameters
        ----------
        clips : uint8 (n, frame, height, width, 3)

        Raises
        ------
        ModelError
            Not clips, or an embedding is not finite.
        """
        return of_frames(NAME, clips, self.config.batch, self.vision.config.projection_dim, self._look)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _look(self, frames: NDArray[Any]) -> torch.Tensor:
        pixels = prepared(self.processor, list(frames)).to(self.vision.device)
        embeddings = self.vision(pixel_values=pixels).image_embeds.float()
        return torch.nn.functional.normalize(embeddings, dim=1)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def words(self, captions: Sequence[str]) -> Floats:
        """Return the embedding of every caption, of unit length: (n, width); zeros where a caption is empty.

        A caption that is longer than the model takes is cut.

        Raises
        ------
        ModelError
            An embedding is not finite.
        """
        values = np.zeros((len(captions), self.text.config.projection_dim), np.float32)
        said = np.flatnonzero([caption.strip() != "" for caption in captions])
        for some in batches(len(said), self.config.batch, f"{NAME}: reading captions"):
            values[said[some]] = self._read([captions[row] for row in said[some]]).cpu().numpy()
        return finite(NAME, values)

    def _read(self, captions: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        embeddings = self.text(input_ids=tokens.to(self.text.device)).text_embeds.float()
        return torch.nn.functional.normalize(embeddings, dim=1)
