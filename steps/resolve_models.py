"""Step: keep which versions a run works with: those that the alias `production` was resolved to, once."""

from typing import Annotated, Any

from zenml import log_metadata, step

from core.progress import WORK
from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet


@step(output_materializers=ReferenceMaterializer)
def resolve_models(models: dict[str, Any], made_from: str) -> Annotated[ModelSet, "resolved"]:
    """Return the versions, as what follows is handed them."""
    with WORK.running():
        resolved = ModelSet.model_validate(models)
    log_metadata({"mlflow_run": resolved.mlflow_run, "versions": str(resolved)})
    return resolved
