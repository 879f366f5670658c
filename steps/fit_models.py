"""Step: fit and score the study's encoder and regressors on its stores, by one process or several."""

from typing import Annotated, Any

from zenml import step

from materializers.references import ReferenceMaterializer
from models.training.settings import TogetherConfig
from steps.study import StudyJson, account, at_work
from studies.references import TrainingRef
from studies.training.distributed import fit_by


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def fit_models(study: StudyJson, together: dict[str, Any]) -> Annotated[TrainingRef, "training"]:
    """Return the reference to the training run; `together` is a `TogetherConfig`, of one process where it is empty."""
    with at_work(study) as chosen:
        training = fit_by(chosen, TogetherConfig.model_validate(together))
    account(up_to_date=training.fresh)
    return training
