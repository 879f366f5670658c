"""Step: fit and score the study's encoder and regressors on its stores, by one process or several."""

from typing import Annotated, Any

from zenml import step

from materializers.references import ReferenceMaterializer
from models.training.settings import DistributedConfig
from steps.study import MADE_FROM, StudyJson, at_work
from studies.references import TrainingRef
from studies.training.distributed import fit_distributed


@step(cache_policy=MADE_FROM, output_materializers=ReferenceMaterializer)
def fit_models(study: StudyJson, made_from: str, together: dict[str, Any]) -> Annotated[TrainingRef, "training"]:
    """Return the reference to the training run; `together` holds a `DistributedConfig`, of one process by default."""
    with at_work(study) as chosen:
        return fit_distributed(chosen, DistributedConfig.model_validate(together))
