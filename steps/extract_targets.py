"""Step: write one extractor's targets to the feature store."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from steps.study import StudyJson, study_of
from studies.extract import extract
from studies.references import GroupRef


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def extract_targets(study: StudyJson, target: str) -> Annotated[GroupRef, "targets"]:
    """Return the reference to the published group."""
    return extract(study_of(study), target)
