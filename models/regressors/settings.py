"""Configs of the regressors; to add a kind, write its file and name its config here."""

import warnings
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from core.config import Config, renamed
from models.training.settings import LoopConfig

Criterion = Literal["leave_one_stimulus_out", "gcv", "identification"]
"""What a ridge's settings are chosen by."""


class _RidgeSettings(Config):
    """What ridge and its correction have in common: candidate penalties, and how many are chosen."""

    alphas: list[PositiveFloat] = Field(default_factory=lambda: [10.0 ** (k / 2) for k in range(-8, 9)], min_length=1)
    """Candidate penalties, in units of the mean eigenvalue of the features' Gram matrix; a single one is fixed."""
    grow: bool = True
    """Try candidates beyond the smallest or the largest one, by the same step, while they are better."""
    penalty_per: Literal["role", "target"] = "role"
    """One penalty for all values of a role's target, or one for each value (with `components`, for each component)."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, content: Any) -> Any:
        content = renamed(content, "penalties", "alphas")
        if isinstance(content, dict) and content.get("criterion") == "loso":
            now = "leave_one_stimulus_out"
            warnings.warn(f"criterion 'loso' is now called '{now}'; this release still reads 'loso'", FutureWarning, 2)
            return {**content, "criterion": now}
        return content


class RidgeConfig(_RidgeSettings):
    """Ridge regression in its dual form, each subject's penalties chosen on stimuli that were left out."""

    kind: Literal["ridge"] = "ridge"
    repeats: Literal["mean", "single"] = "mean"
    """Fit on the mean of a stimulus's repetitions, or on every trial."""
    criterion: Criterion = "leave_one_stimulus_out"
    """Choose penalties by the squared error on stimuli that are left out, exactly; by generalised cross-validation,
    which is faster but takes rows as independent: for `repeats: mean` only; or by how often the left-out stimuli are
    identified among two from their predictions (see `models.regressors.identification`)."""
    variance_matching: float | list[float] | None = None
    """Exponent e of variance matching, above 0 and up to 1; ½ is recommended: a predicted component is multiplied by
    (sd of the training targets / sd of the leave-one-stimulus-out predictions)^e (see `models.regressors.ridge`).
    Without `components`, the components are all principal components of the training targets. A list (it may hold 0)
    is of candidates, chosen with the penalty by `criterion: identification`. None: off."""
    components: int | float | None = None
    """Regress onto so many principal components of the training targets, or onto as many as reach this share of their
    variance: the file is smaller by about the number of values over that of components. None: onto the targets."""

    @field_validator("components", mode="before")
    @classmethod
    def _count_or_share(cls, value: Any) -> Any:
        count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        share = isinstance(value, float) and 0 < value <= 1
        if not (value is None or count or share):
            raise ValueError("expected a whole number of components from 1, or a share of variance above 0 and up to 1")
        return value

    @field_validator("variance_matching", mode="after")
    @classmethod
    def _exponents(cls, value: float | list[float] | None) -> float | list[float] | None:
        if isinstance(value, list):
            if not value or not all(0 <= exponent <= 1 for exponent in value):
                raise ValueError("expected exponents from 0 to 1, at least one of them, such as [0, 0.5, 1]")
        elif value is not None and not 0 < value <= 1:
            raise ValueError("expected an exponent above 0 and up to 1, such as 0.5, a list of them, or null for none")
        return value

    @property
    def exponents(self) -> list[float]:
        """The candidate exponents of variance matching; 0 matches nothing."""
        value = self.variance_matching
        return value if isinstance(value, list) else [0.0 if value is None else value]

    @model_validator(mode="after")
    def _identification_is_of_the_role(self) -> Self:
        if self.criterion == "identification" and self.penalty_per == "target":
            raise ValueError(
                "criterion 'identification' scores all values of a target together, so it cannot choose a penalty for "
                "each: use it with penalty_per 'role', or use 'leave_one_stimulus_out'"
            )
        if len(self.exponents) > 1 and self.criterion != "identification":
            raise ValueError(
                f"variance_matching lists {len(self.exponents)} exponents, which criterion '{self.criterion}' cannot "
                "choose among; use criterion 'identification', or name one exponent"
            )
        return self

    @model_validator(mode="after")
    def _rows_are_independent(self) -> Self:
        if self.criterion == "gcv" and self.repeats == "single":
            raise ValueError(
                "criterion 'gcv' takes rows as independent; use it with repeats 'mean', or use 'leave_one_stimulus_out'"
            )
        return self


class NetworkConfig(LoopConfig):
    """What the regressors with a network have in common."""

    hidden: PositiveInt = 512
    """Width of the hidden layers, shared by all subjects; each subject has an input layer of its own."""
    dropout: float = Field(0.5, ge=0, lt=1)
    input_dropout: float = Field(0.3, ge=0, lt=1)
    """Part of the features that is dropped in training."""
    components: PositiveInt | Annotated[float, Field(gt=0, le=1)] = 200
    """Principal components of the training targets that are predicted, or the share of variance they must reach."""
    repeats: Literal["mean", "single"] = "single"
    """Train on every trial, or on the mean of a stimulus's repetitions."""
    steps: PositiveInt = 1500
    batch: PositiveInt = 128
    warm_up: PositiveInt = 50
    validate_every: PositiveInt = 50


class MlpConfig(NetworkConfig):
    """A multilayer perceptron onto principal components of the targets."""

    kind: Literal["mlp"] = "mlp"


class ResidualConfig(_RidgeSettings, NetworkConfig):
    """Ridge, and a perceptron that learns what ridge leaves over on stimuli that ridge was not fitted on."""

    kind: Literal["residual"] = "residual"


RegressorConfig = Annotated[RidgeConfig | MlpConfig | ResidualConfig, Field(discriminator="kind")]
"""Any regressor's config, by its `kind`."""
