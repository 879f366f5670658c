"""Step: register a training run's parts in MLflow, whole or not at all."""

from typing import Annotated

from zenml import get_step_context, log_metadata, step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, account, at_work
from studies.registry.register import register_training
from studies.runs import TrainingRef


@step(enable_cache=False, output_materializers={"models": ReferenceMaterializer})
def register_models(
    study: StudyJson, training: TrainingRef
) -> tuple[Annotated[ModelSet, "models"], Annotated[str, "run"]]:
    """Return the registered versions and their training run; the MLflow run and the ZenML run name each other."""
    run = str(get_step_context().pipeline_run.id)
    with at_work(study) as chosen:
        registered = register_training(chosen, training, run)
    log_metadata({"mlflow_run": registered.mlflow_run, "versions": str(registered)})
    account(up_to_date=registered.record["zenml_run"] != run)
    return registered, registered.run
