"""What a comparison of a candidate with production comes to, as it is handed on and shown."""

from typing import Literal

from pydantic import ConfigDict, Field

from core.config import Config
from core.errors import RegistryError
from models.registry.sets import ModelSet


class MetricRule(Config):
    """How a candidate's metric may differ from production's, over stimuli held out of both."""

    difference: float = -0.005
    """The least mean of candidate minus production."""
    interval: float = -0.02
    """The least lower end of that difference's 95 % interval."""


Outcome = Literal["first", "current", "better", "unchanged", "outdated", "worse", "incomparable"]
SAME = 0.0005
"""Differences below it, with the ends of their intervals, count as none: three decimals do not show them."""


class MetricRow(Config):
    """One metric of both.

    Attributes
    ----------
    name : ``role.metric``
    production, candidate : means over the stimuli held out of both; see `studies.training.routes.reported_values`
    difference, low, high : candidate minus production, paired, with the 95 % interval
    passes : whether the rules are met
    """

    model_config = ConfigDict(ser_json_inf_nan="constants", allow_inf_nan=True)  # an interval may have no ends

    name: str
    production: float
    candidate: float
    difference: float
    low: float
    high: float
    rule: MetricRule
    passes: bool

    @property
    def same(self) -> bool:
        """Whether the difference is none."""
        return max(map(abs, (self.difference, self.low, self.high))) < SAME


class PromotionDecision(Config):
    """Whether a candidate may be promoted, and its metrics beside those of production.

    Attributes
    ----------
    candidate, production : None where nothing is in production
    outcome : "first", "better" and "unchanged" (no metric differs by `SAME`) may be promoted, "outdated" replaces what
        no longer fits the stores, "current" is in production already, "worse" and "incomparable" are refused unless
        forced
    reasons : in words
    rows : metric by metric
    stimuli : held out of both
    notes : how the scores come about, and which of the rules' metrics are not compared
    """

    candidate: ModelSet
    production: ModelSet | None
    outcome: Outcome
    reasons: list[str]
    rows: list[MetricRow] = Field(default_factory=list)
    stimuli: int = 0
    notes: list[str] = Field(default_factory=list)

    @property
    def accepted(self) -> bool:
        """Whether the rules let the candidate into production."""
        return self.outcome not in ("worse", "incomparable")


def require_accepted(decision: PromotionDecision) -> None:
    """Raise `RegistryError`, in one line, where a comparison lets nothing into production."""
    if not decision.accepted:
        candidate = decision.candidate
        raise RegistryError(
            f"{candidate.study}: training {candidate.run} is not promoted: {'; '.join(decision.reasons)}; train "
            "a better one, or see mlflow/promotion.yaml and --force"
        )
