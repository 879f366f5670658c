"""Step: render, score and show the test stimuli's reconstructions."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, study_of
from studies.reconstruct import reconstruct
from studies.references import ReconstructionRef


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def reconstruct_videos(study: StudyJson, models: ModelSet) -> Annotated[ReconstructionRef, "reconstruction"]:
    """Return the reference to the run's folder."""
    return reconstruct(study_of(study), models)
