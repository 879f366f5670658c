"""Step: resolve the alias `production` once; what follows works with the version numbers."""

from typing import Annotated

from zenml import log_metadata, step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, study_of
from studies.production import resolve_production


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def resolve_models(study: StudyJson, run: str | None = None) -> Annotated[ModelSet, "resolved"]:
    """Return the versions in production, or those of a training run that is to be looked at before promoting."""
    chosen = resolve_production(study_of(study), run)
    log_metadata({"mlflow_run": chosen.mlflow_run, "versions": str(chosen)})
    return chosen
