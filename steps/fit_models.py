"""Step: fit and score the study's encoder and regressors on its stores, by one process or several."""

from typing import Annotated, Any

from zenml import step

from materializers.references import ReferenceMaterializer
from models.training.settings import TogetherConfig
from steps.study import MADE_FROM, StudyJson, at_work
from studies.references import TrainingRef
from studies.training.distributed import fit_by


@step(cache_policy=MADE_FROM, output_materializers=ReferenceMaterializer)
def fit_models(study: StudyJson, made_from: str, together: dict[str, Any]) -> Annotated[TrainingRef, "training"]:
    """Return the reference to the training run; `together` is a `TogetherConfig`, of one process where it is empty."""
    with at_work(study) as chosen:
        return fit_by(chosen, TogetherConfig.model_validate(together))
