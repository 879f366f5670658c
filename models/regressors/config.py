"""Configs of the regressors; to add a kind, write its file and name its config here."""

from typing import Literal

from pydantic import Field, PositiveFloat

from core.config import Config


class RidgeConfig(Config):
    """Ridge regression in its dual form, one penalty per subject and role."""

    kind: Literal["ridge"] = "ridge"
    penalties: list[PositiveFloat] = Field(
        default_factory=lambda: [10.0 ** (k / 2) for k in range(-8, 9)], min_length=1
    )
    """Candidates, in units of the mean eigenvalue of the features' Gram matrix."""
    repeats: Literal["mean", "single"] = "mean"
    """Fit on the mean of a stimulus's repetitions, or on every trial."""


RegressorConfig = RidgeConfig
"""Any regressor's config, told apart by `kind`."""
