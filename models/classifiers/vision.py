"""Published models that look at clips: classifiers of frames and of whole clips, and CLIP for frames and captions.

ViT (Dosovitskiy et al. 2021) classifies frames, VideoMAE (Tong et al. 2022), fine-tuned on Kinetics as for the field's
n-way accuracy, whole clips. CLIP (Radford et al. 2021) gives every frame and every caption a vector in one space. Each
model's input is prepared as its own processor does.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessorPil,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from core.errors import ModelError
from core.progress import report
from models.extractors.base import Clips, check_any_clips
from models.extractors.diffusion import are_cut
from models.extractors.vision import clip_settings, load_vision
from models.weights.load import load_beside, load_folder, load_model, pick_device
from models.weights.locate import TOKENIZER, VISION, Device, locate_files

Floats = NDArray[np.float32]
CLIP_NAME, FRAMES_NAME, VIDEOS_NAME = "judges.clip", "judges.frames", "judges.videos"


@dataclass(frozen=True)
class FrameClassifier:
    """Classifies every frame by the class of image it shows.

    Attributes
    ----------
    model, processor : as transformers loads them
    batch : frames that go through the network together
    """

    model: ViTForImageClassification
    processor: Any
    batch: int

    @classmethod
    def load(cls, weights: str, root: Path, *, batch: int, device: Device) -> Self:
        """Load a classifier of a folder or of the hub; see `FrameClassifierConfig.build`."""
        folder = locate_files(weights, root, VISION)
        settings: Any = load_vision(ViTConfig, folder, "vit")
        model = load_model(ViTForImageClassification, folder).to(pick_device(device))
        return cls(model, load_processor(ViTImageProcessorPil, folder, settings.image_size), batch)

    def scores(self, clips: Clips) -> Floats:
        """Return log-probabilities (n, frame, class) of clips uint8 (n, frame, height, width, 3).

        Raises `ModelError`: not clips, or a score is not finite.
        """
        return of_frames(FRAMES_NAME, clips, self.batch, self.model.config.num_labels, self._look)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _look(self, frames: NDArray[Any]) -> torch.Tensor:
        return _log_probabilities(self.model, prepared(self.processor, list(frames)))


@dataclass(frozen=True)
class VideoClassifier:
    """Classifies every clip by the class of action it shows.

    VideoMAE's image processor resizes the shorter side to the model's size and cuts out the middle: what a wide clip
    shows at its sides is not seen.

    Attributes
    ----------
    model, processor : as transformers loads them
    frames : how many frames the model is shown
    batch : clips that go through the network together
    """

    model: VideoMAEForVideoClassification
    processor: Any
    frames: int
    batch: int

    @classmethod
    def load(cls, weights: str, root: Path, *, frames: int | None, batch: int, device: Device) -> Self:
        """Load a classifier of a folder or of the hub; see `VideoClassifierConfig.build`."""
        folder = locate_files(weights, root, VISION)
        settings: Any = load_vision(VideoMAEConfig, folder, "videomae")
        frames = frames or settings.num_frames
        if frames % settings.tubelet_size:
            raise ModelError(
                f"{VIDEOS_NAME}: frames: {frames}, and {folder} looks at {settings.tubelet_size} frames together; "
                "name a multiple of that, or leave it out"
            )
        model = load_folder(VideoMAEForVideoClassification, folder, dtype=torch.float32, num_frames=frames)
        processor = load_processor(VideoMAEImageProcessorPil, folder, settings.image_size)
        return cls(model.to(pick_device(device)), processor, frames, batch)

    def scores(self, clips: Clips) -> Floats:
        """Return log-probabilities (n, class) of clips uint8 (n, frame, height, width, 3).

        A clip is shown at as many instants as the model is shown frames, the middles of equal parts of it; frames of a
        shorter clip are repeated.

        Raises `ModelError`: not clips, or a score is not finite.
        """
        check_any_clips(VIDEOS_NAME, clips)
        chosen = (2 * np.arange(self.frames) + 1) * clips.shape[1] // (2 * self.frames)
        scores = np.empty((len(clips), self.model.config.num_labels), np.float32)
        for rows in batches(len(clips), self.batch, f"{VIDEOS_NAME}: looking at clips"):
            scores[rows] = self._look(clips[rows, chosen]).cpu().numpy()
        return finite(VIDEOS_NAME, scores)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _look(self, clips: Clips) -> torch.Tensor:
        return _log_probabilities(self.model, prepared(self.processor, [list(clip) for clip in clips]))


@dataclass(frozen=True)
class ClipFrames:
    """Embeds frames and captions.

    Attributes
    ----------
    vision, text, processor, tokenizer : as transformers loads them
    batch : frames, or captions, that go through the network together
    """

    vision: CLIPVisionModelWithProjection
    text: CLIPTextModelWithProjection
    processor: Any
    tokenizer: Any
    batch: int

    @classmethod
    def load(cls, weights: str, root: Path, *, batch: int, device: Device) -> Self:
        """Load a CLIP of a folder or of the hub; see `ClipFramesConfig.build`."""
        folder = locate_files(weights, root, (*VISION, *TOKENIZER))
        size, where = clip_settings(folder).image_size, pick_device(device)
        return cls(
            load_model(CLIPVisionModelWithProjection, folder).to(where),
            load_model(CLIPTextModelWithProjection, folder).to(where),
            load_processor(CLIPImageProcessorPil, folder, size),
            load_beside(CLIPTokenizer, folder),
            batch,
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
        return of_frames(CLIP_NAME, clips, self.batch, self.vision.config.projection_dim, self._look)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _look(self, frames: NDArray[Any]) -> torch.Tensor:
        pixels = prepared(self.processor, list(frames)).to(self.vision.device)
        embeddings = self.vision(pixel_values=pixels).image_embeds.float()
        return torch.nn.functional.normalize(embeddings, dim=1)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def words(self, captions: Sequence[str]) -> Floats:
        """Return the embedding of every caption, of unit length: (n, width); zeros where a caption is empty.

        A caption that is longer than the model takes is cut; see `cut`.

        Raises `ModelError`: an embedding is not finite.
        """
        values = np.zeros((len(captions), self.text.config.projection_dim), np.float32)
        written = np.flatnonzero([caption.strip() != "" for caption in captions])
        for some in batches(len(written), self.batch, f"{CLIP_NAME}: reading captions"):
            values[written[some]] = self._read([captions[row] for row in written[some]]).cpu().numpy()
        return finite(CLIP_NAME, values)

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """Return which captions have more tokens than the model takes, so that `words` cuts them."""
        return are_cut(self.tokenizer, captions)

    @property
    def max_tokens(self) -> int:
        """How many tokens of a caption the model takes, start and end included."""
        return int(self.tokenizer.model_max_length)

    def _read(self, captions: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        embeddings = self.text(input_ids=tokens.to(self.text.device)).text_embeds.float()
        return torch.nn.functional.normalize(embeddings, dim=1)


def _log_probabilities(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(pixel_values=pixels.to(model.device)).logits
    return logits.float().log_softmax(dim=-1)


def load_processor(cls: type, folder: Path, size: int) -> Any:
    """Load an image processor of transformers that works with Pillow.

    Raises
    ------
    ModelError
        Its settings are damaged, or it makes pictures of another size than the model is shown, (size, size).
    """
    processor: Any = load_beside(cls, folder)
    made = prepared(processor, [np.zeros((size, 2 * size, 3), np.uint8)]).shape[-2:]
    if made != (size, size):
        raise ModelError(
            f"{folder}/preprocessor_config.json: makes pictures of {made[0]} × {made[1]}, the model is shown "
            f"{size} × {size}; fetch both files from the same model"
        )
    return processor


def prepared(processor: Any, shown: list[Any]) -> torch.Tensor:
    """Return frames (height, width, 3), or lists of them, as the model's pixels, (n, …, 3, size, size) float32."""
    pixels: torch.Tensor = processor(shown, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    return pixels


def batches(count: int, batch: int, what: str) -> Iterator[slice]:
    """Yield which of `count` go through the network together, with progress."""
    for start in range(0, count, batch):
        report(what, start, count)
        yield slice(start, start + batch)
    report(what, count, count)


def of_frames(name: str, clips: Any, batch: int, width: int, look: Callable[[Clips], torch.Tensor]) -> Floats:
    """Return what a model gives for every frame, (n, frame, width).

    Parameters
    ----------
    name : the model's, for errors and progress
    clips : uint8 (n, frame, height, width, 3)
    batch : frames that are looked at together
    width : numbers a frame
    look : of frames (m, height, width, 3), returns (m, width)

    Raises
    ------
    ModelError
        Not clips, or a value is not finite.
    """
    check_any_clips(name, clips)
    frames = clips.reshape(-1, *clips.shape[2:])
    values = np.empty((len(frames), width), np.float32)
    for rows in batches(len(frames), batch, f"{name}: looking at frames"):
        values[rows] = look(frames[rows]).cpu().numpy()
    return finite(name, values).reshape(*clips.shape[:2], width)


def finite(name: str, values: Floats) -> Floats:
    """Return values unchanged; raises `ModelError` where one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ModelError(f"{name}: gives NaN or infinity; its weights are damaged, fetch them again")
    return values
