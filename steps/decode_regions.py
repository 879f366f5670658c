"""Step: decode the study's targets from each ROI alone and without it."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from steps.study import StudyJson, account, at_work
from studies.regions.run import decode_regions as decode
from studies.runs import RegionsRef


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def decode_regions(study: StudyJson, require: bool = True) -> Annotated[RegionsRef, "regions"]:
    """Return the reference to the run's folder; without `require`, a study of too small ROIs is no failure."""
    with at_work(study) as chosen:
        regions = decode(chosen, require=require)
    account(up_to_date=regions.fresh)
    return regions
