"""Pipeline `targets`: from clips and captions to one immutable Zarr group per extractor."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, group_paths, read_study, remember_failure
from steps.extract_targets import extract_targets
from steps.version_outputs import version_outputs


@pipeline(enable_cache=False, on_failure=remember_failure)
def targets(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    targets: list[str] = [],
    commit: bool = True,
) -> None:
    """Extract every target of a study, or the named ones."""
    config = read_study(study, overrides)
    names = targets or list(config["targets"])
    groups = [extract_targets(config, name, id=f"extract_{name}") for name in names]
    if commit and not overrides:
        version_outputs(study, group_paths(config, "targets", names), after=groups)
