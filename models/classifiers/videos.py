"""A classifier of whole clips, VideoMAE (Tong et al. 2022), fine-tuned on Kinetics as the field's n-way accuracy is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEImageProcessorPil

from core.errors import ModelError
from models.classifiers.preprocessing import Floats, batches, finite, load_processor, prepared
from models.classifiers.settings import VideoClassifierConfig
from models.extractors.base import Clips, check_any_clips
from models.extractors.key_frames import load_vision
from models.weights import locate
from models.weights.load import load_folder, pick_device

NAME = "judges.videos"


@dataclass(frozen=True)
class VideoClassifier:
    """Says of every clip which class of action it shows.

    VideoMAE's image processor resizes the shorter side to the model's size and cuts out the middle: what a wide clip
    shows at its sides is not seen.

    Attributes
    ----------
    model, processor : as transformers loads them
    frames : how many frames the model is shown
    config : VideoClassifierConfig
    """

    model: VideoMAEForVideoClassification
    processor: Any
    frames: int
    config: VideoClassifierConfig

    @classmethod
    def load(cls, config: VideoClassifierConfig, root: Path) -> "VideoClassifier":
        """Load what the settings name; see `VideoClassifierConfig.build`."""
        folder = locate.locate_files(config.weights, root, locate.VISION)
        settings: Any = load_vision(VideoMAEConfig, folder, "videomae")
        frames = config.frames or settings.num_frames
        if frames % settings.tubelet_size:
            raise ModelError(
                f"{NAME}: frames: {frames}, and {folder} looks at {settings.tubelet_size} frames together; "
                "name a multiple of that, or leave it out"
            )
        model = load_folder(VideoMAEForVideoClassification, folder, dtype=torch.float32, num_frames=frames)
        processor = load_processor(VideoMAEImageProcessorPil, folder, settings.image_size)
        return cls(model.to(pick_device(config.device)), processor, frames, config)

    def scores(self, clips: Clips) -> Floats:
        """Return log-probabilities (n, class) of clips uint8 (n, frame, height, width, 3).

        A clip is shown at as many instants as the model is shown frames, the middles of equal parts of it; frames of a
        shorter clip are repeated.

        Raises
        ------
        ModelError
            Not clips, or what is said of one is not finite.
        """
        check_any_clips(NAME, clips)
        chosen = (2 * np.arange(self.frames) + 1) * clips.shape[1] // (2 * self.frames)
        said = np.empty((len(clips), self.model.config.num_labels), np.float32)
        for rows in batches(len(clips), self.config.batch, f"{NAME}: looking at clips"):
            said[rows] = self._look(clips[rows, chosen]).cpu().numpy()
        return finite(NAME, said)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _look(self, clips: Clips) -> torch.Tensor:
        pixels = prepared(self.processor, [list(clip) for clip in clips]).to(self.model.device)
        logits: torch.Tensor = self.model(pixel_values=pixels).logits
        return logits.float().log_softmax(dim=-1)
