"""Pipeline `responses`: from a source to one immutable Zarr group per subject."""

from typing import Any

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, read_study, require_versionable, version
from pipelines.fan_out import Fanned, gathered
from steps.ingest_responses import ingest_responses
from studies.stores.responses import subjects_of


@pipeline(**DYNAMIC)
def responses(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    subjects: list[str] = [],
    commit: bool = True,
    executor: dict[str, Any] = {},
) -> None:
    """Ingest every subject of a study, or the named ones."""
    config, chosen = read_study(study, overrides)
    if commit and not overrides:
        require_versionable(chosen, study)
    groups = gathered(Fanned(ingest_responses, config, "responses", subjects or subjects_of(chosen.source), executor))
    if not overrides:
        version(chosen, study, groups, commit=commit)
