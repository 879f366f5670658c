"""Settings of the training of the small world's own models, counted in steps, and the clips that they see."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from core.clips import ClipConfig
from core.config import Config
from core.errors import ConfigError
from core.explain import read_yaml, validated
from simulation.world import ATTRIBUTES, WORLDS, Pool, WorldName, draw_clips
from zoo.corpus import Corpus, JudgeConfig

TEXT_TO_VIDEO, CLIP, BLIP, JUDGE = "text_to_video", "clip", "blip", "judge"
"""Folders of the models."""

Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=2)]


class VaeStage(Config):
    """How the autoencoder is trained."""

    widths: Widths = (32, 48, 64)
    """Channels from the pixels inwards; each level but the last halves the picture."""
    channels: PositiveInt = 4
    """Channels of a latent."""
    groups: PositiveInt = 8
    """Groups of the group norms; must divide every width."""
    steps: PositiveInt = 2600
    batch: PositiveInt = 16
    """Frames a step."""
    lr: PositiveFloat = 0.02
    lr_adam: PositiveFloat = 2e-3
    kl: float = Field(default=1e-6, ge=0)
    """Weight of the divergence from a standard normal."""


class TextStage(Config):
    """How the text encoder is trained: to know the attributes that a caption names, before the denoiser needs them."""

    width: PositiveInt = 64
    layers: PositiveInt = 2
    tokens: PositiveInt = 20
    """Tokens of a caption, with its start, its end and the padding."""
    steps: PositiveInt = 800
    batch: PositiveInt = 64
    """Captions a step."""
    lr: PositiveFloat = 2e-3


class TextToVideoStage(Config):
    """How the denoiser is trained, under the states of a text encoder that is not changed."""

    widths: Widths = (32, 64)
    groups: PositiveInt = 8
    heads: PositiveInt = 4
    frame_steps: int = Field(default=1200, ge=0)
    """Steps on single frames, which come first: they bind shapes, colours and backgrounds to words."""
    frame_batch: PositiveInt = 48
    video_steps: int = Field(default=3800, ge=0)
    video_batch: PositiveInt = 8
    lr: PositiveFloat = 0.01
    lr_adam: PositiveFloat = 2e-3
    dropped: float = Field(default=0.1, ge=0, lt=1)
    """Part of the captions replaced by the empty one, for guidance."""


class VisionStage(Config):
    """How a vision transformer is trained: first to know the attributes of a frame, then for what it is there for."""

    patch: PositiveInt = 8
    """Side of a patch, in pixels."""
    width: PositiveInt = 64
    layers: PositiveInt = 3
    heads: PositiveInt = 4
    attribute_steps: PositiveInt = 2500
    attribute_batch: PositiveInt = 64
    """Frames a step of the first part."""
    attribute_lr: PositiveFloat = 0.02
    steps: PositiveInt = 1500
    batch: PositiveInt = 64
    """Frames (CLIP) or clips (BLIP) a step of the second part."""
    lr: PositiveFloat = 0.006
    """Rate of the second part, for matrices; higher ones undo what the first part has taught."""
    lr_adam: PositiveFloat = 2e-3


class ClipStage(VisionStage):
    """How CLIP is trained: frames against the captions of their clips."""

    projection: PositiveInt = 32
    """Width of the embeddings that frames and captions share."""


class BlipStage(VisionStage):
    """How BLIP is trained: to write the caption of a clip from the image tokens of its frames."""

    steps: PositiveInt = 6000
    batch: PositiveInt = 16
    text_layers: PositiveInt = 2
    averaged: float = Field(default=0.2, ge=0, le=1)
    """Part of the steps that are shown the average over frames instead of one frame after the other."""


class ZooConfig(Config):
    """The training of the small world's own models: equal settings give equal weights on one machine."""

    seed: int = 0
    clips: PositiveInt = 6000
    """Clips drawn for training."""
    checkpoint_every: PositiveInt = 200
    """Steps between the checkpoints that an interrupted training goes on from."""
    vae: VaeStage = VaeStage()
    text: TextStage = TextStage()
    text_to_video: TextToVideoStage = TextToVideoStage()
    clip: ClipStage = ClipStage()
    blip: BlipStage = BlipStage()

    @classmethod
    def tiny(cls) -> "ZooConfig":
        """Return settings that train nothing useful within seconds: for tests of everything around the weights."""
        vision = {"patch": 8, "width": 16, "layers": 1, "heads": 2, "attribute_steps": 2, "attribute_batch": 4}
        return cls(
            clips=8,
            checkpoint_every=2,
            vae=VaeStage(widths=(8, 8, 16), groups=4, steps=3, batch=4),
            text=TextStage(width=16, layers=1, steps=2, batch=4),
            text_to_video=TextToVideoStage(
                widths=(8, 16), groups=4, heads=2, frame_steps=2, frame_batch=4, video_steps=2, video_batch=2
            ),
            clip=ClipStage.model_validate({**vision, "steps": 2, "batch": 4, "projection": 8}),
            blip=BlipStage.model_validate({**vision, "steps": 2, "batch": 2, "text_layers": 1}),
        )


class SmallWorldConfig(Config):
    """Everything that the small world's own models are made from."""

    world: WorldName = "full"
    clips: ClipConfig = ClipConfig()
    """How many frames of which size; clips are drawn at that size, not read."""
    zoo: ZooConfig = ZooConfig()
    judge: JudgeConfig = JudgeConfig()
    judged: PositiveInt = 200
    """Clips of combinations never trained on that the models are judged by."""
    blurred: float = Field(default=0.7, gt=0, lt=1)
    """Correlation of blurred with true latents where video-to-video starts: about what ridge regression reaches."""

    def draw(self, pool: Pool, n: int, seed: int) -> Corpus:
        """Return n fresh clips of a pool with all their captions and attributes."""
        size = (self.clips.frames, self.clips.height, self.clips.width)
        clips, combinations = draw_clips(WORLDS[self.world], pool, n, seed, *size)
        names = list(ATTRIBUTES)
        labels = [[ATTRIBUTES[name].index(getattr(drawn, name)) for name in names] for drawn in combinations]
        captions = [drawn.captions() for drawn in combinations]
        return Corpus(clips, captions, np.asarray(labels, dtype=np.int64), dict(ATTRIBUTES))


def load_small_world(path: Path) -> SmallWorldConfig:
    """Read the settings from a YAML.

    Raises `ConfigError`: the file is absent or not YAML, or a key or value is wrong.
    """
    try:
        content = read_yaml(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a file of settings") from error
    return validated(SmallWorldConfig, content or {}, str(path))
