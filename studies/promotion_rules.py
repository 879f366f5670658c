"""What a candidate must show before it goes into production: `mlflow/promotion.yaml`."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError

from core.config import Config, explain
from core.errors import ConfigError
from studies.home import home

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
    file = home() / FILE
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
