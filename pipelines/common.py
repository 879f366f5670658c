"""What the pipelines share: reading the study, and remembering why a step failed."""

from typing import Any

from feature_store.schema import Kind
from studies.home import shown
from studies.study import Study, load_study

DEFAULT_STUDY = "configs/demo.yaml"

failures: list[BaseException] = []
"""What steps of this process raised, the newest last; ZenML itself only says which step failed."""


def read_study(study: str, overrides: list[str]) -> dict[str, Any]:
    """Return a study's config as JSON, for steps."""
    return load_study(study, overrides).model_dump(mode="json")


def group_paths(config: dict[str, Any], kind: Kind, names: list[str]) -> list[str]:
    """Return where a study's groups lie, relative to the checkout."""
    store = Study.model_validate(config).store
    return [shown(store / kind / name) for name in names]


def remember_failure(error: BaseException) -> None:
    """Keep a step's error; the pipelines' `on_failure` hook."""
    failures.append(error)
