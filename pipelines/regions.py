"""Pipeline `regions`: from the stores to what each ROI alone predicts of the targets, and what is lost without it."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, read_study
from steps.decode_regions import decode_regions


@pipeline(**DYNAMIC)
def regions(study: str = DEFAULT_STUDY, overrides: list[str] = []) -> None:
    """Decode the targets from each ROI alone and without it."""
    config, _ = read_study(study, overrides)
    decode_regions(study=config)
