"""Step: commit the DVC stages that own what a run wrote, or keep what is as dvc.lock has it."""

from typing import Annotated

from zenml import log_metadata, step

from core.checkout import project_root
from core.progress import WORK
from feature_store.versioning import CHANGED, commit_outputs, keep_outputs, states
from steps.study import account


@step(enable_cache=False)
def version_outputs(study: str, paths: list[str], commit: bool = True) -> Annotated[dict[str, str], "versions"]:
    """Return what became of each path, relative to the checkout; `study` is the YAML as the user named it.

    Without `commit`, dvc.lock stays as it is, and what agrees with it is kept in DVC's cache.
    """
    with WORK.running():
        outcome = states(project_root(), [project_root() / path for path in paths])
        changed = [path for path, state in outcome.items() if state == CHANGED]
        outcome |= (commit_outputs if commit else keep_outputs)(project_root(), changed, study)
    versions = dict(zip(paths, outcome.values(), strict=True))
    log_metadata({"dvc": versions})
    account(up_to_date=not changed)
    return versions
