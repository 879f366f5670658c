"""What the pipelines share: reading the study, and steps that ZenML answers from its cache only where that is right."""

from collections.abc import Sequence
from typing import Any

from zenml import save_artifact
from zenml.models import ArtifactVersionResponse
from zenml.steps import BaseStep

from core.checkout import relative_to_root
from feature_store.schema import Kind
from pipelines.fan_out import Fanned
from steps.version_outputs import version_outputs
from studies.status.standing import Standing, versions_standing
from studies.study import Study, load_study

DEFAULT_STUDY = "configs/demo.yaml"

DYNAMIC: dict[str, Any] = {"dynamic": True, "execution_mode": "continue_on_failure"}
"""Of every pipeline: it asks before each step what stands, and what can go on goes on where one part fails."""


def read_study(study: str, overrides: list[str]) -> tuple[ArtifactVersionResponse, Study]:
    """Return a study's config as the artifact that all steps of a run are handed, and as the study that it is."""
    chosen = load_study(study, overrides)
    return save_artifact(chosen.model_dump(mode="json"), name=f"{chosen.study}-study"), chosen


def answered(step: BaseStep, standing: Standing, **inputs: Any) -> Any:
    """Call a step, which ZenML answers from its cache where the very result stands; return its outputs."""
    return step.with_options(enable_cache=standing.stands)(made_from=standing.made_from, **inputs)


def version(study: Study, file: str, groups: Sequence[Fanned], source: Standing | None = None) -> None:
    """Commit the DVC stages that own groups, and the simulated recordings where their standing is given.

    Parameters
    ----------
    file : str
        The study's YAML, as the user named it.
    """
    made_from = [ref.digest for fanned in groups for ref in fanned.published]
    paths = [path for fanned in groups for path in group_paths(study, fanned.kind, fanned.names)]
    if source is not None:
        made_from, paths = [source.made_from, *made_from], [study.source.path, *paths]
    answered(version_outputs, versions_standing(made_from, paths), study=file, paths=paths)


def group_paths(study: Study, kind: Kind, names: Sequence[str]) -> list[str]:
    """Return where a study's groups lie, relative to the checkout."""
    return [relative_to_root(study.store / kind / name) for name in names]
