"""Step: register a training run's parts in MLflow, whole or not at all."""

from typing import Annotated

from zenml import get_step_context, log_metadata, step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, study_of
from studies.references import TrainingRef
from studies.register import register_training


@step(enable_cache=False, output_materializers={"models": ReferenceMaterializer})
def register_models(
    study: StudyJson, training: TrainingRef
) -> tuple[Annotated[ModelSet, "models"], Annotated[str, "run"]]:
    """Return the registered versions and their training run; the MLflow run and the ZenML run name each other."""
    registered = register_training(study_of(study), training, str(get_step_context().pipeline_run.id))
    log_metadata({"mlflow_run": registered.mlflow_run, "versions": str(registered)})
    return registered, registered.run
