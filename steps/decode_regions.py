"""Step: decode the study's targets from each ROI alone and without it."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from steps.study import MADE_FROM, StudyJson, at_work
from studies.references import RegionsRef
from studies.regions.run import decode_regions as decode


@step(cache_policy=MADE_FROM, output_materializers=ReferenceMaterializer)
def decode_regions(study: StudyJson, made_from: str, require: bool = True) -> Annotated[RegionsRef, "regions"]:
    """Return the reference to the run's folder; without `require`, a study of too small ROIs is no failure."""
    with at_work(study) as chosen:
        return decode(chosen, require=require)
