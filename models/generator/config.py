"""Settings of the video generator and of the small world's own models; imports no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from core.config import Config
from models import hub

if TYPE_CHECKING:
    from models.generator.text_to_video import VideoGenerator

Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=2)]


class GeneratorConfig(Config):
    """A text-to-video model that renders latents: renoised to `strength`, then denoised under the caption.

    The defaults suit the small world's own model.
    """

    kind: Literal["text_to_video"] = "text_to_video"
    weights: str
    """A folder in the hub's layout, relative to the study's root, or a model's name on the hub."""
    strength: float = Field(default=0.2, ge=0, le=1)
    """0 decodes the latents as they are, 1 ignores them."""
    guidance: float = Field(default=2.0, ge=0)
    """Weight of classifier-free guidance; 1 and below follow the caption without guidance."""
    steps: PositiveInt = 15
    """Steps of a whole denoising; a render takes ``steps · strength`` of them."""
    batch: PositiveInt = 8
    """Clips rendered together; changes the speed and the memory, not the videos."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""

    def build(self, root: Path) -> "VideoGenerator":
        """Load the generator; a relative path in `weights` is resolved against `root`.

        Raises
        ------
        ModelError
            The weights are not there, or their parts do not fit each other.
        """
        from models.generator.text_to_video import TextToVideo

        return TextToVideo.load(self, root)

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return hub.revision(hub.locate(self.weights, root, hub.TEXT_TO_VIDEO), hub.TEXT_TO_VIDEO)


class VaeStage(Config):
    """How the small world's autoencoder is trained."""

    widths: Widths = (16, 16, 48)
    """Channels from the pixels inwards; each level but the last halves the picture."""
    channels: PositiveInt = 4
    """Channels of a latent."""
    groups: PositiveInt = 8
    """Groups of the group norms; must divide every width."""
    steps: PositiveInt = 570
    batch: PositiveInt = 8
    """Frames a step."""
    lr: PositiveFloat = 0.02
    lr_adam: PositiveFloat = 2e-3
    kl: float = Field(default=1e-6, ge=0)
    """Weight of the divergence from a standard normal."""


class TextToVideoStage(Config):
    """How the small world's denoiser and its text encoder are trained, together."""

    widths: Widths = (32, 64)
    groups: PositiveInt = 8
    heads: PositiveInt = 4
    text_width: PositiveInt = 64
    text_layers: PositiveInt = 2
    tokens: PositiveInt = 20
    """Tokens of a caption, with its start, its end and the padding."""
    frame_steps: int = Field(default=172, ge=0)
    """Steps on single frames, which come first: they bind colours and backgrounds to words."""
    frame_batch: PositiveInt = 48
    video_steps: PositiveInt = 24
    video_batch: PositiveInt = 8
    lr: PositiveFloat = 0.01
    lr_adam: PositiveFloat = 2e-3
    dropped: float = Field(default=0.1, ge=0, lt=1)
    """Part of the captions replaced by the empty one, for guidance."""
    time_power: PositiveFloat = 1.5
    """Times are drawn as ``1000 · u ** time_power``: above 1, more of them near the clean end."""


class ZooConfig(Config):
    """The training of the small world's own models, counted in steps, so that equal settings give equal weights."""

    seed: int = 0
    clips: PositiveInt = 768
    """Clips drawn for training."""
    held_out: PositiveInt = 64
    """Clips drawn for the reported reconstruction error."""
    vae: VaeStage = VaeStage()
    text_to_video: TextToVideoStage = TextToVideoStage()

    @classmethod
    def tiny(cls) -> "ZooConfig":
        """Return settings that train nothing useful within seconds: for tests of everything around the weights."""
        return cls(
            clips=8,
            held_out=4,
            vae=VaeStage(widths=(8, 8, 16), groups=4, steps=3, batch=4),
            text_to_video=TextToVideoStage(
                widths=(8, 16),
                groups=4,
                heads=2,
                text_width=16,
                text_layers=1,
                frame_steps=2,
                frame_batch=4,
                video_steps=2,
                video_batch=2,
            ),
        )
