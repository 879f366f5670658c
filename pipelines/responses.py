"""Pipeline `responses`: from a source to one immutable Zarr group per subject."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.ingest_responses import ingest_responses
from steps.study import study_of
from steps.version_stores import version_stores
from studies.ingest import subjects_of


@pipeline(enable_cache=False, on_failure=remember_failure)
def responses(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    subjects: list[str] = [],
    commit: bool = True,
) -> None:
    """Ingest every subject of a study, or the named ones."""
    config = read_study(study, overrides)
    groups = [
        ingest_responses(config, subject, id=f"ingest_{subject}")
        for subject in subjects or subjects_of(study_of(config))
    ]
    if commit:
        version_stores(groups)
