"""Pipeline `targets`: from clips and captions to one immutable Zarr group per extractor."""

from typing import Any

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, read_study, require_versionable, version
from pipelines.fan_out import Fanned, gathered
from steps.extract_targets import extract_targets


@pipeline(**DYNAMIC)
def targets(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    targets: list[str] = [],
    commit: bool = True,
    executor: dict[str, Any] = {},
) -> None:
    """Extract every target of a study, or the named ones."""
    config, chosen = read_study(study, overrides)
    if commit and not overrides:
        require_versionable(chosen, study)
    groups = gathered(Fanned(extract_targets, config, "targets", targets or list(chosen.targets), executor))
    if not overrides:
        version(chosen, study, groups, commit=commit)
