"""Step: set the alias `production` on the whole set of a training run."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, study_of
from studies.promote import promote_run


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def promote_models(study: StudyJson, run: str | None = None) -> Annotated[ModelSet, "promoted"]:
    """Return the promoted versions; without a run, the newest complete ones."""
    return promote_run(study_of(study), run)
