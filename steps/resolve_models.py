"""Step: resolve, once, which versions a run works with: a training run's, by default those in production."""

from typing import Annotated

from zenml import log_metadata, step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, account, at_work
from studies.registry.production import resolve_production
from studies.registry.promote import resolve_promoted


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def resolve_models(study: StudyJson, run: str | None = None, promoted: bool = False) -> Annotated[ModelSet, "resolved"]:
    """Return the versions, as what follows is handed them.

    With `promoted`, those that will be in production once the training run has been promoted where the rules let it.
    """
    with at_work(study) as chosen:
        resolved = resolve_promoted(chosen, run) if promoted else resolve_production(chosen, run)
    log_metadata({"mlflow_run": resolved.mlflow_run, "versions": str(resolved)})
    account(up_to_date=True)
    return resolved
