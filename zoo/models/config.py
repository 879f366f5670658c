"""Settings of the training of the small world's own models, counted in steps; imports no torch."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from core.config import Config

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
    """How the denoiser is trained, under the states of a text encoder that stays as it is."""

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
