"""Step: render, score and show the test stimuli's reconstructions."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import MADE_FROM, StudyJson, at_work
from studies.reconstruction.run import reconstruct
from studies.references import ReconstructionRef


@step(cache_policy=MADE_FROM, output_materializers=ReferenceMaterializer)
def reconstruct_videos(
    study: StudyJson, models: ModelSet, made_from: str
) -> Annotated[ReconstructionRef, "reconstruction"]:
    """Return the reference to the run's folder."""
    with at_work(study) as chosen:
        return reconstruct(chosen, models)
