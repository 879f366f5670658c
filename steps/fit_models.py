"""Step: fit and score the study's encoder and regressors on its stores."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from steps.study import StudyJson, study_of
from studies.fit import fit
from studies.references import TrainingRef


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def fit_models(study: StudyJson) -> Annotated[TrainingRef, "training"]:
    """Return the reference to the training run."""
    return fit(study_of(study))
