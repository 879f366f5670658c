"""What a model set is: one encoder and one regressor per role, registered together and used together."""

from pathlib import Path
from typing import Any

from pydantic import Field

from core.config import Config

ENCODER = "encoder"
PRODUCTION = "production"


def part_names(roles: list[str]) -> list[str]:
    """Return the parts of a set: the encoder, then ``regressor-ROLE`` for each role."""
    return [ENCODER, *(f"regressor-{role}" for role in roles)]


def model_name(study: str, part: str) -> str:
    """Return the registered model's name, for example ``demo-regressor-z``."""
    return f"{study}-{part}"


class TrainedSet(Config):
    """A trained set that lies on disk and is to be registered.

    Attributes
    ----------
    study, run : the study and its training run
    folders : part to folder
    digests : part to the folder's digest
    widths : part to (input width, output width) of one row; -1 where subjects differ
    record : what a person judges by and reconstruction checks: data digests, subjects, git commit, ZenML run, …
    metrics : flat name to value
    curves : name to (step, value), such as losses
    artifacts : files and folders to keep with the run
    """

    study: str
    run: str
    folders: dict[str, Path]
    digests: dict[str, str]
    widths: dict[str, tuple[int, int]]
    record: dict[str, Any]
    metrics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]] = Field(default_factory=dict)
    artifacts: list[Path]


class ModelSet(Config):
    """Registered versions that belong together.

    Attributes
    ----------
    study, run : the study and the training run the versions come from
    versions : part to version number
    digests : part to the digest of its files
    record : as in `TrainedSet`
    mlflow_run : id of the MLflow run
    """

    study: str
    run: str
    versions: dict[str, int]
    digests: dict[str, str]
    record: dict[str, Any]
    mlflow_run: str

    def __str__(self) -> str:
        return ", ".join(f"{part} v{version}" for part, version in self.versions.items())
