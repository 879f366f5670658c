"""Pipeline `responses`: from a source to one immutable Zarr group per subject."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, group_paths, read_study, remember_failure
from steps.ingest_responses import ingest_responses
from steps.study import study_of
from steps.version_outputs import version_outputs
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
    names = subjects or subjects_of(study_of(config))
    groups = [ingest_responses(config, name, id=f"ingest_{name}") for name in names]
    if commit and not overrides:
        version_outputs(study, group_paths(config, "responses", names), after=groups)
