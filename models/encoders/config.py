"""Configs of the brain encoders; to add a kind, write its file and name its config here."""

from typing import Literal

from core.config import Config


class StandardiseConfig(Config):
    """Each voxel minus its mean over the training trials, divided by its standard deviation over them."""

    kind: Literal["standardise"] = "standardise"
    rois: list[str] | None = None
    """Only these ROIs; all by default."""


EncoderConfig = StandardiseConfig
"""Any encoder's config, told apart by `kind`."""
