"""Step: commit the DVC stages that own what a run wrote."""

from typing import Annotated

from zenml import log_metadata, step

from core.checkout import project_root
from core.progress import WORK
from feature_store.versioning import commit_outputs


@step
def version_outputs(study: str, paths: list[str], made_from: str) -> Annotated[dict[str, str], "versions"]:
    """Return what became of each path, relative to the checkout; `study` is the YAML as the user named it."""
    with WORK.running():
        outcome = commit_outputs(project_root(), [project_root() / path for path in paths], study)
    named = dict(zip(paths, outcome.values(), strict=True))
    log_metadata({"dvc": named})
    return named
