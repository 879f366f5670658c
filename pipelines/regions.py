"""Pipeline `regions`: from the stores to what each ROI alone tells of the targets, and what is lost without it."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, answered, read_study
from steps.decode_regions import decode_regions
from studies.status.standing import regions_standing


@pipeline(**DYNAMIC)
def regions(study: str = DEFAULT_STUDY, overrides: list[str] = []) -> None:
    """Decode the targets from each ROI alone and without it."""
    config, chosen = read_study(study, overrides)
    answered(decode_regions, regions_standing(chosen), study=config)
