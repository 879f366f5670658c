"""Pipeline `training`: from the stores to a registered encoder and one regressor per role."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.fit_models import fit_models
from steps.promote_models import promote_models
from steps.register_models import register_models


@pipeline(enable_cache=False, on_failure=remember_failure)
def training(study: str = DEFAULT_STUDY, overrides: list[str] = [], promote: bool = False) -> None:
    """Fit, score and register; with `promote`, put what was trained into production where the rules let it."""
    config = read_study(study, overrides)
    _, run = register_models(config, fit_models(config))
    if promote:
        promote_models(config, run, require=False)
