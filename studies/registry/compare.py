"""What a candidate must show before it goes into production: `mlflow/promotion.yaml`.

Compares a candidate with what is in production, on stimuli that were held out of both trainings.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field, PositiveInt, ValidationError

from core.checkout import project_root
from core.config import Config, explain
from core.errors import ConfigError, ServerError
from evaluation.statistics.intervals import paired_interval
from models.registry.production import read_artifact
from models.registry.sets import ModelSet
from studies.training.fit import VALIDATION

FILE = "mlflow/promotion.yaml"


class MetricRule(Config):
    """How a candidate's metric may differ from production's, over stimuli held out of both."""

    difference: float = -0.005
    """The least mean of candidate minus production."""
    interval: float = -0.02
    """The least lower end of that difference's 95 % interval."""


class ForceRule(Config):
    """What `--force` may override."""

    over: tuple[Literal["worse", "incomparable"], ...] = ("worse", "incomparable")
    by: Literal["anyone"] | tuple[str, ...] = "anyone"
    """Whose word counts: the server's users, else the system's."""


class PromotionRules(Config):
    """The rules, as `mlflow/promotion.yaml` names them; a metric of a role that a study lacks does not count."""

    metrics: dict[str, MetricRule] = Field(
        default_factory=lambda: {"z.correlation": MetricRule(), "b.correlation": MetricRule()}, min_length=1
    )
    gain: float = 0.0
    """The least mean of the metrics' differences."""
    fewest: PositiveInt = 5
    """Stimuli held out of both trainings, below which nothing is compared."""
    outdated: Literal["replace", "compare"] = "replace"
    """What becomes of a production set that was trained on other data than the stores hold."""
    force: ForceRule = ForceRule()


def promotion_rules() -> PromotionRules:
    """Return the checkout's rules; the defaults where it has no file of them.

    Raises
    ------
    ConfigError
        The file is not YAML, or a key or a value in it is wrong.
    """
    file = project_root() / FILE
    if not file.is_file():
        return PromotionRules()
    return _read(file)


def _read(file: Path) -> PromotionRules:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return PromotionRules.model_validate(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{FILE}: not YAML ({' '.join(str(error).split())}); correct the file") from error
    except ValidationError as error:
        raise ConfigError(explain(error, PromotionRules, FILE)) from error


Outcome = Literal["first", "current", "better", "outdated", "worse", "incomparable"]


@dataclass(frozen=True)
class MetricRow:
    """One metric of both.

    Attributes
    ----------
    name : ``role.metric``
    production, candidate : means over the stimuli held out of both
    difference, low, high : candidate minus production, paired, with the 95 % interval
    passes : whether the rules are met
    """

    name: str
    production: float
    candidate: float
    difference: float
    low: float
    high: float
    rule: MetricRule
    passes: bool


@dataclass(frozen=True)
class Comparison:
    """What a candidate is beside production.

    Attributes
    ----------
    candidate, production : None where nothing is in production
    outcome : "first" and "better" may be promoted, "outdated" replaces what no longer fits the stores, "current" is in
        production already, "worse" and "incomparable" are refused unless forced
    reasons : in words
    rows : metric by metric
    stimuli : held out of both
    """

    candidate: ModelSet
    production: ModelSet | None
    outcome: Outcome
    reasons: list[str]
    rows: list[MetricRow] = field(default_factory=list)
    stimuli: int = 0

    @property
    def accepted(self) -> bool:
        """Whether the rules let the candidate into production."""
        return self.outcome not in ("worse", "incomparable")


def validation_of(chosen: ModelSet) -> dict[str, Any] | None:
    """Return a registered training's scores on held-out stimuli, None where it has none."""
    try:
        found: dict[str, Any] = json.loads(read_artifact(chosen, VALIDATION))
    except (ServerError, OSError, ValueError):
        return None
    return found


def compare(candidate: ModelSet, production: ModelSet, rules: PromotionRules, seed: int) -> Comparison:
    """Compare two registered trainings by the rules."""
    ours, theirs = validation_of(candidate), validation_of(production)
    reasons = _why_incomparable(candidate, production, ours, theirs, rules)
    if reasons or ours is None or theirs is None:
        return Comparison(candidate, production, "incomparable", reasons)
    shared = [name for name in ours["stimuli"] if name in set(theirs["stimuli"])]
    rows = [
        _row(name, rule, ours, theirs, shared, seed) for name, rule in rules.metrics.items() if _has(name, ours, theirs)
    ]
    reasons = [
        f"{row.name} differs by {row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}], at least "
        f"{row.rule.difference:+g} [{row.rule.interval:+g} …] is asked for"
        for row in rows
        if not row.passes
    ]
    gain = float(np.mean([row.difference for row in rows]))
    if gain < rules.gain:
        reasons.append(f"the mean difference is {gain:+.4f}, at least {rules.gain:+g} is asked for")
    return Comparison(candidate, production, "worse" if reasons else "better", reasons, rows, len(shared))


def _why_incomparable(
    candidate: ModelSet,
    production: ModelSet,
    ours: dict[str, Any] | None,
    theirs: dict[str, Any] | None,
    rules: PromotionRules,
) -> list[str]:
    missing = [one.run for one, found in ((candidate, ours), (production, theirs)) if found is None]
    if ours is None or theirs is None:
        return [f"training {run} has no scores on held-out stimuli" for run in missing]
    reasons = [
        f"{what} differ: {old} in production, {new} of the candidate"
        for what, old, new in (
            ("subjects", theirs["subjects"], ours["subjects"]),
            ("targets", _targets(production), _targets(candidate)),
        )
        if old != new
    ]
    shared = set(ours["stimuli"]) & set(theirs["stimuli"])
    if len(shared) < rules.fewest:
        reasons.append(
            f"{len(shared)} stimuli were held out of both ({len(theirs['stimuli'])} and {len(ours['stimuli'])}), at "
            f"least {rules.fewest} are needed"
        )
    if not any(_has(name, ours, theirs) for name in rules.metrics):
        reasons.append(f"neither has the metrics {', '.join(rules.metrics)}")
    return reasons


def _targets(chosen: ModelSet) -> dict[str, str]:
    """Return the revision of every role's target, shortened: scores of other targets mean something else."""
    named: dict[str, dict[str, str]] = chosen.record.get("targets", {})
    return {role: f"{one['name']} ({one['extractor']} {one['revision'][:8]})" for role, one in named.items()}


def _has(name: str, *records: dict[str, Any]) -> bool:
    role, _, metric = name.rpartition(".")
    return all(metric in record["values"].get(role, {}) for record in records)


def _row(
    name: str, rule: MetricRule, ours: dict[str, Any], theirs: dict[str, Any], shared: list[str], seed: int
) -> MetricRow:
    role, _, metric = name.rpartition(".")
    new, old = (_values(record, role, metric, shared) for record in (ours, theirs))
    difference, low, high = paired_interval(new, old, seed=seed)
    passes = difference >= rule.difference and low >= rule.interval
    return MetricRow(name, float(old.mean()), float(new.mean()), difference, low, high, rule, passes)


def _values(
    record: dict[str, Any], role: str, metric: str, stimuli: list[str]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    by_name = dict(zip(record["stimuli"], record["values"][role][metric], strict=True))
    return np.array([by_name[name] for name in stimuli], np.float64)
