"""Configs of the brain encoders; to add a kind, write its file and name its config here."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from core.config import Config
from models.training.settings import LoopConfig


class VoxelSelection(Config):
    """Only the voxels that the training targets predict best; chosen from training stimuli alone."""

    fraction: float | list[float] = Field(0.3)
    """Share of the voxels that vary which is kept, above 0 and up to 1; of a list, one is chosen by cross-validation
    inside the training stimuli."""
    by: Literal["training_correlation"] = "training_correlation"
    """What voxels are ranked by: the correlation of their responses with leave-one-stimulus-out predictions from the
    targets (see `models.encoders.voxel_selection`)."""

    @field_validator("fraction", mode="after")
    @classmethod
    def _shares(cls, value: float | list[float]) -> float | list[float]:
        shares = value if isinstance(value, list) else [value]
        if not shares or not all(0 < share <= 1 for share in shares):
            raise ValueError("expected a share of the voxels above 0 and up to 1, such as 0.3, or a list of them")
        return value

    @property
    def fractions(self) -> list[float]:
        """The candidate fractions."""
        return self.fraction if isinstance(self.fraction, list) else [self.fraction]


class StandardiseConfig(Config):
    """Each voxel minus its mean over the training trials, divided by its standard deviation over them."""

    kind: Literal["standardise"] = "standardise"
    reliability: float = Field(0.0, ge=0)
    """With r > 0, each voxel is multiplied by the r-th power of its share of signal variance, estimated from the
    training repetitions, so that a penalty shrinks noisy voxels more; 0 leaves all alike."""
    voxels: VoxelSelection | None = None
    """Selects voxels by the training targets; None keeps all that vary."""


class PcaConfig(Config):
    """Principal components of training rows and unlabelled ones: the linear use of recordings without labels."""

    kind: Literal["pca"] = "pca"
    components: PositiveInt = 100
    """At most as many as there are rows."""
    reliability: float = Field(0.0, ge=0)
    """As for `standardise`, before the components are found."""
    voxels: VoxelSelection | None = None
    """As for `standardise`, before the components are found."""


class PretrainConfig(LoopConfig):
    """Stage 1a, masked brain modelling: to fill in masked patches of voxels from the visible ones."""

    lr: PositiveFloat = 4e-3
    masked: float = Field(0.75, gt=0, lt=1)
    """Part of the patches that is masked, drawn afresh for every sample."""
    targets: Literal["same", "other_repeat"] = "same"
    """What a masked patch is compared with: the trial itself, or another trial of the same stimulus, whose noise is
    another, so that only what the stimulus evokes can be learned from it. Rows without a twin are their own target."""
    visible: float = Field(0.0, ge=0)
    """Weight of the visible patches' error beside the masked ones'; it makes sense with `other_repeat` alone."""
    whole_rois: float = Field(0.0, ge=0, le=1)
    """Part of the samples in which whole regions are masked."""


LossName = Literal["info_nce", "soft_clip", "bi_mixco"]


class AlignConfig(LoopConfig):
    """Stage 1b: contrastive alignment of the encoder's embedding with the targets of `roles.align`."""

    losses: tuple[LossName, ...] = Field(("bi_mixco", "soft_clip"), min_length=1)
    """One after the other, each for an equal part of the steps."""
    temperature: float = Field(0.125, gt=0)
    width: PositiveInt = 128
    """Width of the embedding that is aligned."""
    skip: bool = True
    """Whether a linear path from the voxels is learned beside the transformer."""
    rate_below: float = Field(0.3, ge=0, le=1)
    """Rate of the pretrained network, as part of that of what is new."""


class MbmConfig(Config):
    """Masked brain modelling: a masked autoencoder over patches of voxels (MinD-Vis), shared by all subjects."""

    kind: Literal["mbm"] = "mbm"
    patch: PositiveInt = 16
    """Voxels a patch."""
    width: PositiveInt = 64
    depth: PositiveInt = 3
    heads: PositiveInt = 4
    ratio: float = Field(2.0, gt=0)
    """Width of the feed-forward layers over that of the tokens."""
    decoder_width: PositiveInt = 48
    decoder_depth: PositiveInt = 1
    patch_weights: Literal["own", "shared"] = "own"
    """Whether every patch has an embedding and a head of its own, or all share one (a convolution, as in MinD-Vis):
    unlike pixels, the voxels of one patch mean something else than those of the next."""
    pool: Literal["mean", "tokens"] = "mean"
    """What regressors get of the tokens: class token and mean, or every token."""
    hands_on: Literal["embedding", "both"] = "both"
    """What regressors get: the embedding, or the standardised betas beside it."""
    share: float = Field(0.2, gt=0, lt=1)
    """Beside betas, the embedding's share of the features' variance: how far a penalty trusts it."""
    reliability: float = Field(0.0, ge=0)
    """As for `standardise`; it concerns the betas that are handed on."""
    pretraining: PretrainConfig | None = PretrainConfig()
    """None: alignment begins with the initial weights."""
    alignment: AlignConfig | None = AlignConfig()
    """None: nothing is aligned."""

    @model_validator(mode="after")
    def _widths_divide(self) -> Self:
        for name, width in (("width", self.width), ("decoder_width", self.decoder_width)):
            if width % (2 * self.heads):
                raise ValueError(f"{name} is {width}; make it a multiple of twice the heads, {2 * self.heads}")
        return self


EncoderConfig = Annotated[StandardiseConfig | PcaConfig | MbmConfig, Field(discriminator="kind")]
"""Any encoder's config, by its `kind`."""
