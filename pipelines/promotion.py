"""Pipeline `promotion`: the alias `production` on the whole set of a training run, or on nothing."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.promote_models import promote_models


@pipeline(enable_cache=False, on_failure=remember_failure)
def promotion(
    study: str = DEFAULT_STUDY, overrides: list[str] = [], run: str | None = None, force: bool = False
) -> None:
    """Promote a training run, by default the newest, where mlflow/promotion.yaml lets it."""
    promote_models(read_study(study, overrides), run, force)
