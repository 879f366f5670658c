"""Settings of the captioners, distinguished by the key `kind`; imports no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from core.config import Config
from models.weights import locate
from models.weights.locate import Device, Precision

if TYPE_CHECKING:
    from models.captioners.blip import BlipCaptioner

MAX_REPETITION_PENALTY = 1.2


class NearestCaptionerConfig(Config):
    """The caption of the training stimulus whose target is nearest to the predicted one."""

    kind: Literal["nearest"] = "nearest"

    def revision(self, root: Path) -> str:
        """Return a constant: the captions come from the training targets, and count as such."""
        del root
        return "nearest"


class BlipCaptionerConfig(Config):
    """BLIP's text decoder, which writes captions of the image tokens that the extractor `blip` gives."""

    kind: Literal["blip"] = "blip"
    weights: str = ""
    """A folder with `config.json`, a tokenizer and safetensors, or a model's name on the hub; in a study, by default,
    those of the target in roles.b."""
    beams: PositiveInt = 1
    """Captions that are followed at once; 1 takes the likeliest token each time."""
    max_tokens: PositiveInt = 20
    """Largest number of tokens of a caption."""
    repetition_penalty: float = 1.0
    """What the scores of tokens already written are divided by, negative ones multiplied, 1 to 1.2; 1 leaves them."""
    batch: PositiveInt = 32
    """Captions written together; changes the speed and the memory."""
    dtype: Precision = "float32"
    device: Device = "auto"

    @field_validator("repetition_penalty")
    @classmethod
    def _keep_sentences(cls, value: float) -> float:
        if not 1 <= value <= MAX_REPETITION_PENALTY:
            raise ValueError(
                f"a penalty above {MAX_REPETITION_PENALTY} makes lists of keywords of sentences, and one below 1 "
                f"repetitions; choose 1 to {MAX_REPETITION_PENALTY}"
            )
        return value

    def build(self, root: Path) -> "BlipCaptioner":
        """Load the text decoder; a relative path in `weights` is resolved against `root`.

        Raises
        ------
        ModelError
            The weights are not there or pickled, or their decoder has fewer positions than `max_tokens`.
        """
        from models.captioners.blip import BlipCaptioner, Decoding

        decoding = Decoding(self.beams, self.max_tokens, self.repetition_penalty, self.batch, self.dtype)
        return BlipCaptioner.load(self.weights, root, decoding, self.device)

    def revision(self, root: Path) -> str:
        """Return the digest of the weights, without loading them; raises as `build` does where they are absent."""
        return locate.revision_of_files(locate.locate_files(self.weights, root, locate.CAPTIONER), locate.CAPTIONER)


CaptionerConfig = Annotated[NearestCaptionerConfig | BlipCaptionerConfig, Field(discriminator="kind")]
"""Any captioner's config, by its `kind`."""
