"""Settings of the extractors, distinguished by the key `extractor`; imports no torch.

targets:
  latents: {extractor: latents, weights: models/small_world/text_to_video}
  pixels: {extractor: pixels, height: 16, width: 16}
  clip: {extractor: clip, weights: openai/clip-vit-large-patch14, states: pooled}
  blip: {extractor: blip, weights: Salesforce/blip-image-captioning-large, over_frames: concatenate}
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args

from pydantic import Field, PositiveInt

from core.config import Config
from core.files import read_json
from core.protocols import require_members
from models.extractors.base import OverFrames, Pixels
from models.weights import locate
from models.weights.locate import Device, Precision

if TYPE_CHECKING:
    from models.extractors.diffusion import Latents, Text
    from models.extractors.vision import BlipStates, ClipStates, KeyFrames


class PixelsConfig(Config):
    """The pixels themselves, averaged over areas."""

    extractor: Literal["pixels"] = "pixels"
    frames: PositiveInt = 8
    """Frames kept of each clip; a clip of k times as many is averaged by k."""
    height: PositiveInt = 16
    width: PositiveInt = 16
    channels: Literal["rgb", "grey"] = "rgb"

    def build(self, root: Path) -> Pixels:
        """Return the extractor; `root` is not used."""
        del root
        return Pixels(self.frames, self.height, self.width, self.channels)

    def shape(self, root: Path) -> tuple[int, ...]:
        """Return the shape of one stimulus's values."""
        del root
        return (self.frames, 3 if self.channels == "rgb" else 1, self.height, self.width)

    def revision(self, root: Path) -> str:
        """Return what changes whenever the same clip may give other values."""
        del root
        return Pixels.revision


class LatentsConfig(Config):
    """The latents of a diffusion model's autoencoder."""

    extractor: Literal["latents"] = "latents"
    weights: str
    """A folder in the hub's layout with `vae/`, relative to the study's root, or a model's name on the hub."""
    frames: PositiveInt = 8
    """Frames, height and width of the clips that are read."""
    height: PositiveInt = 32
    width: PositiveInt = 32
    dtype: Precision = "float32"
    device: Device = "auto"

    def build(self, root: Path) -> "Latents":
        """Load the autoencoder; a relative path in `weights` is resolved against `root`.

        Raises `ModelError`: the weights are not there, or do not fit the clips' size.
        """
        from models.extractors.diffusion import Latents

        frame = (self.frames, self.height, self.width)
        return Latents.load(self.weights, root, frame, precision=self.dtype, device=self.device)

    def shape(self, root: Path) -> tuple[int, ...]:
        """Return the shape of one stimulus's values, by the autoencoder's `config.json` alone."""
        from models.extractors.diffusion import latent_shape

        vae = read_json(locate.settings_folder(self.weights, root, "vae") / "config.json")
        return latent_shape(vae, (self.frames, self.height, self.width))

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return locate.revision(locate.locate(self.weights, root, locate.VAE), locate.VAE)


class TextConfig(Config):
    """The conditioning states of a diffusion model's CLIP text encoder."""

    extractor: Literal["text"] = "text"
    weights: str
    """A folder in the hub's layout with `text_encoder/` and `tokenizer/`, or a model's name on the hub."""
    dtype: Precision = "float32"
    device: Device = "auto"

    def build(self, root: Path) -> "Text":
        """Load the text encoder; a relative path in `weights` is resolved against `root`.

        Raises `ModelError`: the weights are not there.
        """
        from models.extractors.diffusion import Text

        return Text.load(self.weights, root, precision=self.dtype, device=self.device)

    def shape(self, root: Path) -> tuple[int, ...]:
        """Return the shape of one stimulus's values, by the text encoder's `config.json` alone."""
        text = read_json(locate.settings_folder(self.weights, root, "text_encoder") / "config.json")
        return (text["max_position_embeddings"], text["hidden_size"])

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return locate.revision(locate.locate(self.weights, root, locate.TEXT), locate.TEXT)


class KeyFrameStatesConfig(Config):
    """What the vision extractors share: weights, and the key frames that are shown to them."""

    weights: str
    """A folder with `config.json`, `preprocessor_config.json` and safetensors, or a model's name on the hub."""
    frames: PositiveInt = 8
    """Key frames, evenly spaced over the clip; at most as many as the clip has."""
    over_frames: OverFrames = "mean"
    dtype: Precision = "float32"
    device: Device = "auto"

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return locate.revision_of_files(locate.locate_files(self.weights, root, locate.VISION), locate.VISION)

    def _key_frames(self) -> "KeyFrames":
        from models.extractors.vision import KeyFrames

        return KeyFrames(self.frames, self.over_frames, self.dtype)


class ClipStatesConfig(KeyFrameStatesConfig):
    """The states of a CLIP vision model, over key frames of the clip."""

    extractor: Literal["clip"] = "clip"
    states: Literal["pooled", "tokens"] = "pooled"
    """A frame's projected embedding, (width,), or the last layer's states, (token, width), the class token first."""

    def build(self, root: Path) -> "ClipStates":
        """Load the vision model; a relative path in `weights` is resolved against `root`.

        Raises `ModelError`: the weights are not there, pickled, or have no projection where `states` is "pooled".
        """
        from models.extractors.vision import ClipStates

        return ClipStates.load(self.weights, root, self.states, self._key_frames(), self.device)

    def shape(self, root: Path) -> tuple[int, ...]:
        """Return the shape of one stimulus's values, read from `config.json` alone."""
        from models.extractors.vision import clip_shape

        return clip_shape(locate.settings_folder(self.weights, root), self.states, self._key_frames())


class BlipStatesConfig(KeyFrameStatesConfig):
    """The image tokens that BLIP's text decoder attends to, over key frames of the clip."""

    extractor: Literal["blip"] = "blip"
    image_size: PositiveInt | None = None
    """Height and width of what the model is shown, in pixels; by default the size in its own `config.json`.

    At another size its position embeddings are interpolated. With patches of 16, 240 gives 226 tokens, 384 gives 577.
    """

    def build(self, root: Path) -> "BlipStates":
        """Load BLIP's vision model; a relative path in `weights` is resolved against `root`.

        Raises
        ------
        ModelError
            The weights are not there or pickled, or `image_size` is no multiple of the model's patches.
        """
        from models.extractors.vision import BlipStates

        return BlipStates.load(self.weights, root, self.image_size, self._key_frames(), self.device)

    def shape(self, root: Path) -> tuple[int, ...]:
        """Return the shape of one stimulus's values, read from `config.json` alone."""
        from models.extractors.vision import blip_shape

        return blip_shape(locate.settings_folder(self.weights, root), self.image_size, self._key_frames())


class GivenConfig(Config):
    """Embeddings made elsewhere, one row a stimulus; there is nothing to build."""

    extractor: Literal["given"] = "given"
    file: str | None = None
    """The name under which the source has them; by default the target's own."""

    def revision(self, root: Path) -> str:
        """Return a constant: the embeddings are inputs, and count as such."""
        del root
        return "given"


class Extracts(Protocol):
    """What the settings of every extractor offer, so that a study can be checked before anything is loaded."""

    extractor: str

    def build(self, root: Path) -> Any:
        """Load the extractor, a `models.extractors.base.Extractor`."""

    def shape(self, root: Path) -> tuple[int, ...]:
        """Return the shape of one stimulus's values, without loading the extractor."""

    def revision(self, root: Path) -> str:
        """Return what changes whenever the same stimulus may give other values."""


ExtractorConfig = Annotated[
    PixelsConfig | LatentsConfig | TextConfig | ClipStatesConfig | BlipStatesConfig | GivenConfig,
    Field(discriminator="extractor"),
]
"""Any extractor's config, by its key `extractor`; `pydantic.TypeAdapter(ExtractorConfig)` reads one."""

for _config in get_args(get_args(ExtractorConfig)[0]):
    if _config is not GivenConfig:  # of which nothing is built
        require_members(_config, f"extractor '{_config.model_fields['extractor'].default}'", [Extracts])
