"""Step: commit the DVC stages that own the groups a run published."""

from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step

from feature_store.versioning import commit_groups
from studies.home import home
from studies.references import GroupRef


@step(enable_cache=False)
def version_stores(groups: list[GroupRef]) -> Annotated[dict[str, str], "versions"]:
    """Return what became of each group."""
    outcome = commit_groups(home(), [home() / group.path for group in groups])
    named = {str(Path(path).relative_to(home())): state for path, state in outcome.items()}
    log_metadata({"dvc": named})
    return named
