"""Step: write one subject's responses to the feature store."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from steps.study import StudyJson, study_of
from studies.ingest import ingest
from studies.references import GroupRef


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def ingest_responses(study: StudyJson, subject: str) -> Annotated[GroupRef, "responses"]:
    """Return the reference to the published group."""
    return ingest(study_of(study), subject)
