"""Pipeline `promotion`: the alias `production` on the whole set of a training run, or on nothing."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, read_study
from steps.promote_models import promote_models


@pipeline(**DYNAMIC)
def promotion(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    run: str | None = None,
    force: bool = False,
    require: bool = True,
) -> None:
    """Promote a training run, by default the newest, where mlflow/promotion.yaml lets it.

    With `require`, the run fails where it does not.
    """
    config, _ = read_study(study, overrides)
    promote_models(study=config, run=run, force=force, require=require)
