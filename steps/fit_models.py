"""Step: fit and score the study's encoder and regressors on its stores, by one process or several."""

from typing import Annotated, Any

from zenml import step

from materializers.references import ReferenceMaterializer
from models.training.settings import DistributedConfig
from steps.study import StudyJson, account, at_work
from studies.runs import TrainingRef
from studies.training.distributed import fit_distributed


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def fit_models(study: StudyJson, together: dict[str, Any]) -> Annotated[TrainingRef, "training"]:
    """Return the reference to the training run; `together` holds a `DistributedConfig`, of one process by default."""
    with at_work(study) as chosen:
        training = fit_distributed(chosen, DistributedConfig.model_validate(together))
    account(up_to_date=training.fresh)
    return training
