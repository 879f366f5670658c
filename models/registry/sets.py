"""What a model set is: one encoder and one regressor per role, registered together and used together."""

from pathlib import Path
from typing import Any

from pydantic import Field

from core.config import Config

ENCODER = "encoder"
PRODUCTION = "production"
PREVIOUS = "previous"
"""The alias of what was in production before; `brain2video promote --rollback` returns to it."""

Score = dict[str, Any]
"""``{"value": …, "ci95": [low, high], "n": …}``"""


def part_names(roles: list[str]) -> list[str]:
    """Return the parts of a set: the encoder, then ``regressor-ROLE`` for each role."""
    return [ENCODER, *(f"regressor-{role}" for role in roles)]


def role_of(part: str) -> str:
    """Return the role that a regressor is for: ``z`` of ``regressor-z``."""
    return part.removeprefix("regressor-")


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
    examples : part to (rows in, rows out), one row each: an input, and what the part makes of it. Their shapes are
        declared; an axis along which subjects differ is named in `free`
    free : part to the axes of a row that differ between subjects, in and out, counted from 1
    record : what reconstruction checks: data digests, subjects, targets, ROIs, git commit, ZenML run, …
    validation : by ``role.metric``, the score on held-out training stimuli that a person judges by
    metrics : flat name to value
    curves : name to (step, value), such as losses
    artifacts : files and folders to keep with the run
    """

    study: str
    run: str
    folders: dict[str, Path]
    digests: dict[str, str]
    examples: dict[str, tuple[Any, Any]]
    free: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = Field(default_factory=dict)
    record: dict[str, Any]
    validation: dict[str, Score] = Field(default_factory=dict)
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
