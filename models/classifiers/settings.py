"""Settings of the models that look at clips; imports no torch.

judges:
  clip: {weights: openai/clip-vit-base-patch32}
  frames: {weights: google/vit-base-patch16-224}
  videos: {weights: MCG-NJU/videomae-base-finetuned-kinetics}
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from core.config import Config
from core.digests import INPUTS
from core.files import digest_json
from models.weights import locate
from models.weights.locate import Device

if TYPE_CHECKING:
    from models.classifiers.judges import Judges
    from models.classifiers.vision import ClipFrames, FrameClassifier, VideoClassifier

CLIP_FILES = (*locate.VISION, *locate.TOKENIZER)
"""What is read of a CLIP whose images and words are both looked at."""


class _LookingConfig(Config):
    """What the models that look at clips share; `build` and `revision` raise `ModelError` where weights are absent."""

    weights: str
    """A folder with `config.json`, `preprocessor_config.json` and safetensors (for CLIP, a tokenizer too), or a model's
    name on the hub."""
    device: Device = "auto"
    batch: PositiveInt = 64
    """Frames, or captions, that go through the network together."""

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them."""
        return locate.revision_of_files(locate.locate_files(self.weights, root, locate.VISION), locate.VISION)


class FrameClassifierConfig(_LookingConfig):
    """A classifier of images, ViT, asked of every frame."""

    def build(self, root: Path) -> "FrameClassifier":
        """Load the classifier."""
        from models.classifiers.vision import FrameClassifier

        return FrameClassifier.load(self.weights, root, batch=self.batch, device=self.device)


class VideoClassifierConfig(_LookingConfig):
    """A classifier of whole clips, VideoMAE."""

    batch: PositiveInt = 4
    """Clips that go through the network together."""
    frames: PositiveInt | None = None
    """How many frames of a clip the model is shown; by default as many as it was trained with, 16. MinD-Video and those
    who follow its code show it 6, all that their clips have."""

    def build(self, root: Path) -> "VideoClassifier":
        """Load the classifier."""
        from models.classifiers.vision import VideoClassifier

        return VideoClassifier.load(self.weights, root, frames=self.frames, batch=self.batch, device=self.device)

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, and of `frames` where given."""
        weights = super().revision(root)
        return weights if self.frames is None else digest_json({"weights": weights, "frames": self.frames})


class ClipFramesConfig(_LookingConfig):
    """A CLIP, by which frames are compared with frames and with captions."""

    def build(self, root: Path) -> "ClipFrames":
        """Load the model."""
        from models.classifiers.vision import ClipFrames

        return ClipFrames.load(self.weights, root, batch=self.batch, device=self.device)

    def revision(self, root: Path) -> str:
        """Return the digest of the weights and the vocabulary."""
        return locate.revision_of_files(locate.locate_files(self.weights, root, CLIP_FILES), CLIP_FILES)


class JudgesConfig(Config):
    """What reconstructions are looked at with, beside the study's own extractors; each may be absent."""

    small_world: str | None = None
    """The folder of the small world's judge, which reads attributes from its clips."""
    clip: ClipFramesConfig | None = None
    frames: FrameClassifierConfig | None = None
    videos: VideoClassifierConfig | None = None

    def build(self, root: Path, read_caption: Callable[[str], Any]) -> "Judges":
        """Load the models; see `Judges` for `read_caption`."""
        from models.classifiers.attributes import AttributeClassifier
        from models.classifiers.judges import Judges

        return Judges(
            read_caption,
            AttributeClassifier.load(root / self.small_world) if self.small_world else None,
            self.clip.build(root) if self.clip else None,
            self.frames.build(root) if self.frames else None,
            self.videos.build(root) if self.videos else None,
        )

    def looking(self) -> dict[str, tuple[str, int | None]]:
        """Return the model that makes each space's arrays, and how many frames of a clip it is shown, where set."""
        made: dict[str, tuple[str, int | None]] = {}
        if self.small_world is not None:
            made["video_classes"] = made["video_attributes"] = (self.small_world, None)
        if self.clip is not None:
            made |= dict.fromkeys(("clip_frames", "clip", "caption_clip", "text"), (self.clip.weights, None))
        if self.frames is not None:
            made["frame_classes"] = (self.frames.weights, None)
        if self.videos is not None:
            made["video_classes"] = (self.videos.weights, self.videos.frames)
        return made

    def revisions(self, root: Path) -> dict[str, str]:
        """Return what changes whenever a judge may give other values: the digests of their weights, by name."""
        made = {"small_world": INPUTS.digest_folder(root / self.small_world)} if self.small_world else {}
        others = {"clip": self.clip, "frames": self.frames, "videos": self.videos}
        return made | {name: config.revision(root) for name, config in others.items() if config is not None}
