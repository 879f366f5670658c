"""Configs of the brain encoders; to add a kind, write its file and name its config here."""

from typing import Literal

from pydantic import Field

from core.config import Config


class StandardiseConfig(Config):
    """Each voxel minus its mean over the training trials, divided by its standard deviation over them."""

    kind: Literal["standardise"] = "standardise"
    rois: list[str] | None = Field(None, min_length=1)
    """Only these ROIs; all by default."""


EncoderConfig = StandardiseConfig
"""Any encoder's config, told apart by `kind`."""
