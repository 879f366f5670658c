"""Pipeline `regions`: from the stores to what each ROI alone tells of the targets, and what is lost without it."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.decode_regions import decode_regions


@pipeline(enable_cache=False, on_failure=remember_failure)
def regions(study: str = DEFAULT_STUDY, overrides: list[str] = []) -> None:
    """Decode the targets from each ROI alone and without it."""
    decode_regions(read_study(study, overrides))
