"""Step: commit the DVC stages that own what a run wrote."""

from typing import Annotated

from zenml import log_metadata, step

from feature_store.versioning import commit_outputs
from studies.home import home


@step(enable_cache=False)
def version_outputs(study: str, paths: list[str]) -> Annotated[dict[str, str], "versions"]:
    """Return what became of each path, relative to the checkout; `study` is the YAML as the user named it."""
    outcome = commit_outputs(home(), [home() / path for path in paths], study)
    named = dict(zip(paths, outcome.values(), strict=True))
    log_metadata({"dvc": named})
    return named
