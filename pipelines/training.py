"""Pipeline `training`: from the stores to a registered encoder and one regressor per role."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.fit_models import fit_models
from steps.register_models import register_models


@pipeline(enable_cache=False, on_failure=remember_failure)
def training(study: str = DEFAULT_STUDY, overrides: list[str] = []) -> None:
    """Fit, score and register."""
    config = read_study(study, overrides)
    register_models(config, fit_models(config))
