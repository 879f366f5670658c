"""Step: render, score and show the test stimuli's reconstructions."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, account, at_work
from studies.reconstruction.run import reconstruct
from studies.runs import ReconstructionRef


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def reconstruct_videos(study: StudyJson, models: ModelSet) -> Annotated[ReconstructionRef, "reconstruction"]:
    """Return the reference to the run's folder."""
    with at_work(study) as chosen:
        reconstruction = reconstruct(chosen, models)
    account(up_to_date=reconstruction.fresh)
    return reconstruction
