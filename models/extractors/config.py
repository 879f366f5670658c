"""Settings of the extractors, told apart by the key `extractor`; imports no torch.

targets:
  latents: {extractor: latents, weights: data/zoo/small-world}
  pixels: {extractor: pixels, height: 16, width: 16}
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from core.config import Config
from models import hub

if TYPE_CHECKING:
    from models.extractors.latents import Latents
    from models.extractors.pixels import Pixels
    from models.extractors.text import Text

Device = Literal["auto", "cpu", "cuda"]
"""`auto` takes a GPU where there is one. Values of the two may differ in the last bit."""


class PixelsConfig(Config):
    """The pixels themselves, averaged over areas."""

    extractor: Literal["pixels"] = "pixels"
    frames: PositiveInt = 8
    """Frames kept of each clip; a clip of k times as many is averaged by k."""
    height: PositiveInt = 16
    width: PositiveInt = 16
    channels: Literal["rgb", "grey"] = "rgb"

    def build(self, root: Path) -> "Pixels":
        """Return the extractor; `root` is not used."""
        from models.extractors.pixels import Pixels

        del root
        return Pixels(self)

    def revision(self, root: Path) -> str:
        """Return what changes whenever the same clip may give other values."""
        from models.extractors.pixels import Pixels

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
    device: Device = "auto"

    def build(self, root: Path) -> "Latents":
        """Load the autoencoder; a relative path in `weights` is resolved against `root`.

        Raises
        ------
        ModelError
            The weights are not there, or do not fit the clips' size.
        """
        from models.extractors.latents import Latents

        return Latents.load(self, root)

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return hub.revision(hub.locate(self.weights, root, hub.VAE), hub.VAE)


class TextConfig(Config):
    """The conditioning states of a diffusion model's CLIP text encoder."""

    extractor: Literal["text"] = "text"
    weights: str
    """A folder in the hub's layout with `text_encoder/` and `tokenizer/`, or a model's name on the hub."""
    device: Device = "auto"

    def build(self, root: Path) -> "Text":
        """Load the text encoder; a relative path in `weights` is resolved against `root`.

        Raises
        ------
        ModelError
            The weights are not there.
        """
        from models.extractors.text import Text

        return Text.load(self, root)

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return hub.revision(hub.locate(self.weights, root, hub.TEXT), hub.TEXT)


class GivenConfig(Config):
    """Embeddings made elsewhere, one row a stimulus; there is nothing to build."""

    extractor: Literal["given"] = "given"
    file: str | None = None
    """The name under which the source has them; by default the target's own."""

    def revision(self, root: Path) -> str:
        """Return a constant: the embeddings are inputs, and count as such."""
        del root
        return "given"


BuildableConfig = PixelsConfig | LatentsConfig | TextConfig

ExtractorConfig = Annotated[BuildableConfig | GivenConfig, Field(discriminator="extractor")]
"""Any of them, told apart by `extractor`; `pydantic.TypeAdapter(ExtractorConfig)` reads one."""

EXTRACTORS: dict[str, type[BuildableConfig] | type[GivenConfig]] = {
    "pixels": PixelsConfig,
    "latents": LatentsConfig,
    "text": TextConfig,
    "given": GivenConfig,
}
"""The registry: every extractor's settings by its name."""
