"""What the pipelines share: reading the study, and remembering why a step failed."""

from typing import Any

from core.errors import Brain2VideoError
from feature_store.schema import Kind
from studies.home import shown
from studies.study import Study, load_study

DEFAULT_STUDY = "configs/demo.yaml"

_failures: list[BaseException] = []


def read_study(study: str, overrides: list[str]) -> dict[str, Any]:
    """Return a study's config as JSON, for steps."""
    return load_study(study, overrides).model_dump(mode="json")


def group_paths(config: dict[str, Any], kind: Kind, names: list[str]) -> list[str]:
    """Return where a study's groups lie, relative to the checkout."""
    store = Study.model_validate(config).store
    return [shown(store / kind / name) for name in names]


def remember_failure(error: BaseException) -> None:
    """Keep a step's error; ZenML itself only says which step failed."""
    _failures.append(error)


def last_failure() -> BaseException | None:
    """Return the error of the step that failed last: a user's mistake before anything else."""
    mistakes = [error for error in _failures if isinstance(error, Brain2VideoError)]
    return (mistakes or _failures or [None])[-1]
