"""Settings of the video generators, distinguished by the key `kind`; imports no torch.

generator: {kind: text_to_video, weights: cerspense/zeroscope_v2_576w, strength: 0.8, guidance: 15.0, steps: 20}
generator: {kind: animatediff, weights: OWNER/MODEL, motion: guoyww/animatediff-motion-adapter-v1-5-2}
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag

from core.config import Config
from core.files import digest_json
from models.weights import locate
from models.weights.locate import Device, Precision

if TYPE_CHECKING:
    from models.generator.base import Rendering, VideoGenerator


class DiffusionConfig(Config):
    """What all generators do: latents are renoised to `strength`, then denoised under the caption.

    The defaults suit the small world's own model.
    """

    weights: str
    """A folder in the hub's layout, relative to the study's root, or a model's name on the hub."""
    conditioning: Literal["caption", "states"] = "caption"
    """What the predicted b becomes: a caption, which the generator's own text encoder reads, or, where that encoder
    makes b (`text`), the conditioning states themselves."""
    strength: float = Field(default=0.5, ge=0, le=1)
    """0 decodes the latents as they are, 1 ignores them."""
    guidance: float = Field(default=2.0, ge=0)
    """Weight of classifier-free guidance; 1 and below follow the caption without guidance."""
    steps: PositiveInt = 20
    """Steps of a whole denoising; a render takes ``steps · strength`` of them."""
    batch: PositiveInt = 8
    """Clips rendered together, halved where memory does not hold them; changes speed and memory, not the videos."""
    decoded: PositiveInt = 8
    """Frames that the autoencoder decodes together."""
    dtype: Precision = "float32"
    device: Device = "auto"
    """`auto` takes a GPU where there is one."""

    def rendering(self) -> "Rendering":
        """Return what a loaded generator has to know of these settings."""
        from models.generator.base import Rendering

        return Rendering(self.strength, self.guidance, self.steps, self.batch, self.decoded)

    def build(self, root: Path) -> "VideoGenerator":
        """Load the generator; relative paths in `weights` and `motion` are resolved against `root`.

        Raises `ModelError`: the weights are not there, or their parts do not fit each other.
        """
        from models.generator.load import load_generator

        return load_generator(
            self.weights,
            root,
            self.rendering(),
            motion=self._motion_adapter(),
            device=self.device,
            dtype=self.dtype,
            revision=self.revision(root),
        )

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return locate.revision(locate.locate(self.weights, root, locate.TEXT_TO_VIDEO), locate.TEXT_TO_VIDEO)

    def _motion_adapter(self) -> str | None:
        return None


class TextToVideoConfig(DiffusionConfig):
    """A text-to-video model whose denoiser is a `UNet3DConditionModel`, such as zeroscope and ModelScope's."""

    kind: Literal["text_to_video"] = "text_to_video"


class AnimateDiffConfig(DiffusionConfig):
    """A text-to-image model of Stable Diffusion's form that a motion adapter makes one of videos (Guo et al. 2024)."""

    kind: Literal["animatediff"] = "animatediff"
    motion: str
    """The motion adapter: a folder with `config.json` and safetensors, or a model's name on the hub."""

    def revision(self, root: Path) -> str:
        """Return the digest of both weights; as for other generators."""
        motion = locate.revision_of_files(locate.locate_files(self.motion, root, locate.MOTION), locate.MOTION)
        return digest_json([super().revision(root), motion])

    def _motion_adapter(self) -> str | None:
        return self.motion


def _kind(content: Any) -> str | None:
    """Return the key `kind`; the first kind where it is absent."""
    return content.get("kind", "text_to_video") if isinstance(content, dict) else getattr(content, "kind", None)


GeneratorConfig = Annotated[
    Annotated[TextToVideoConfig, Tag("text_to_video")] | Annotated[AnimateDiffConfig, Tag("animatediff")],
    Discriminator(_kind),
]
"""Any generator's config, by its `kind`, which may be left out for a text-to-video model."""
