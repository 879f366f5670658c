"""Pipeline `training`: from the stores to a registered encoder and one regressor per role."""

from typing import Any

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, answered, read_study
from steps.fit_models import fit_models
from steps.promote_models import promote_models
from steps.register_models import register_models
from studies.status.standing import promoted_standing, registered_standing, training_standing


@pipeline(**DYNAMIC)
def training(
    study: str = DEFAULT_STUDY, overrides: list[str] = [], promote: bool = False, together: dict[str, Any] = {}
) -> None:
    """Fit, score and register; with `promote`, put what was trained into production where the rules let it."""
    config, chosen = read_study(study, overrides)
    trained = answered(fit_models, training_standing(chosen), study=config, together=together)
    registered = registered_standing(chosen, trained.load())
    _, run = answered(register_models, registered, study=config, training=trained)
    if promote:
        name = run.load()
        answered(promote_models, promoted_standing(chosen, name), study=config, run=name, require=False)
