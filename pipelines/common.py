"""What the pipelines share: reading the study, and committing what a run wrote."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zenml import save_artifact
from zenml.models import ArtifactVersionResponse

from core.checkout import project_root, relative_to_root
from core.errors import Brain2VideoError
from feature_store.versioning import require_committable
from pipelines.fan_out import Fanned
from steps.version_outputs import version_outputs
from studies.study import Study, load_study

DEFAULT_STUDY = "configs/demo.yaml"

DYNAMIC: dict[str, Any] = {"dynamic": True, "execution_mode": "continue_on_failure"}
"""Of every pipeline: its steps are known as it runs, and what can go on goes on where one part fails."""


def read_study(study: str, overrides: list[str]) -> tuple[ArtifactVersionResponse, Study]:
    """Return a study's config as the artifact that all steps of a run are handed, and as the study that it is."""
    chosen = load_study(study, overrides)
    return save_artifact(chosen.model_dump(mode="json"), name=f"{chosen.study}-study"), chosen


def require_versionable(study: Study, file: str) -> None:
    """Check, before the work, that DVC will be able to commit what a run writes; raises `StoreError` where it will not.

    Parameters
    ----------
    file : str
        The study's YAML, as the user named it.
    """
    simulated = [] if study.simulation is None else [project_root() / study.source.path]
    require_committable(project_root(), [*simulated, study.store], file)


def version(study: Study, file: str, groups: Sequence[Fanned], *, commit: bool) -> None:
    """Commit the DVC stages that own groups, and the simulated recordings where the study has such.

    Parameters
    ----------
    file : str
        The study's YAML, as the user named it.
    commit : bool
        Whether `dvc.lock` is brought up to date; else what agrees with it is kept in DVC's cache.
    """
    paths = [relative_to_root(study.store / fanned.kind / name) for fanned in groups for name in fanned.names]
    simulated = [] if study.simulation is None else [study.source.path]
    version_outputs(study=file, paths=[*simulated, *paths], commit=commit)


@contextmanager
def nothing_promoted(study: str) -> Iterator[None]:
    """Let what fails in a block report that production is unchanged, in its own line or as a note."""
    unchanged = f"{study}: nothing was promoted, production is unchanged"
    try:
        yield
    except Brain2VideoError as error:
        raise type(error)(f"{error}; {unchanged}") from error
    except Exception as error:
        error.add_note(unchanged)
        raise
