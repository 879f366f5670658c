"""Pipeline `training`: from the stores to a registered encoder and one regressor per role."""

from typing import Any

from zenml import pipeline

from models.registry.client import require_experiment
from pipelines.common import DEFAULT_STUDY, DYNAMIC, read_study
from steps.fit_models import fit_models
from steps.promote_models import promote_models
from steps.register_models import register_models


@pipeline(**DYNAMIC)
def training(
    study: str = DEFAULT_STUDY, overrides: list[str] = [], promote: bool = False, together: dict[str, Any] = {}
) -> None:
    """Fit, score and register; with `promote`, put what was trained into production where the rules let it."""
    config, chosen = read_study(study, overrides)
    require_experiment(chosen.study)
    trained = fit_models(study=config, together=together)
    _, run = register_models(study=config, training=trained)
    if promote:
        promote_models(study=config, run=run, require=False)
