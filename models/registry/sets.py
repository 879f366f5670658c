"""What a model set is: one encoder and one regressor per role, registered together and used together.

Finds registered sets: by training run, by fingerprint, by the versions of their parts.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from pydantic import ConfigDict, Field

from core.config import Config
from core.errors import RegistryError
from models.registry.client import versions_of

ENCODER = "encoder"
PRODUCTION = "production"
PREVIOUS = "previous"
"""The alias of what was in production before; `brain2video promote --rollback` returns to it."""

Score = dict[str, Any]
"""``{"value": …, "ci95": [low, high], "n": …, "how": how it comes about}``; the last may be absent"""


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
    metrics : flat name to value, of the registered route; no route or target is part of a name
    routes, controls : by route, where there are several, and by control: the same names to its own values
    settings : the study's, nested as in its YAML
    started, finished : of the training, with their time zone; None where that is not known
    curves : name to (step, value), such as losses
    artifacts : files and folders to keep with the run
    """

    model_config = ConfigDict(allow_inf_nan=True)  # a score may have no value

    study: str
    run: str
    folders: dict[str, Path]
    digests: dict[str, str]
    examples: dict[str, tuple[Any, Any]]
    free: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = Field(default_factory=dict)
    record: dict[str, Any]
    validation: dict[str, Score] = Field(default_factory=dict)
    metrics: dict[str, float]
    routes: dict[str, dict[str, float]] = Field(default_factory=dict)
    controls: dict[str, dict[str, float]] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    started: datetime | None = None
    finished: datetime | None = None
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


def find_registered(study: str, parts: list[str], fingerprint: str) -> ModelSet | None:
    """Return the newest complete set whose record carries this fingerprint, or None."""
    for version in versions_of(model_name(study, parts[0])):
        if version.tags.get("fingerprint") == fingerprint:
            found = set_of_run(study, parts, version.tags["training_run"])
            if found is not None:
                return found
    return None


def set_of_run(study: str, parts: list[str], run: str) -> ModelSet | None:
    """Return the set that a training run registered, or None where it is not complete."""
    versions = {}
    for part in parts:
        match = [v for v in versions_of(model_name(study, part)) if v.tags.get("training_run") == run]
        if not match:
            return None
        versions[part] = match[0]
    return set_of_versions(study, versions)


def set_of_versions(study: str, versions: dict[str, ModelVersion]) -> ModelSet:
    """Return the set that these versions, one per part and all of one training run, make."""
    first = next(iter(versions.values()))
    return ModelSet(
        study=study,
        run=first.tags["training_run"],
        versions={part: int(version.version) for part, version in versions.items()},
        digests={part: version.tags["digest"] for part, version in versions.items()},
        record=json.loads(first.tags["record"]),
        mlflow_run=str(first.run_id),
    )


def runs_of(study: str) -> list[str]:
    """Return the training runs that registered an encoder, newest first."""
    runs = (version.tags.get("training_run") for version in versions_of(model_name(study, ENCODER)))
    return list(dict.fromkeys(run for run in runs if run))


def set_to_promote(study: str, parts: list[str], run: str | None = None) -> ModelSet:
    """Return a training run's complete set, by default the newest one.

    Raises `RegistryError`: nothing is registered, the named run is not, or its set is not complete.
    """
    runs = runs_of(study)
    if not runs:
        raise RegistryError(f"{study}: no training run is registered; run 'brain2video train' first")
    if run is not None and run not in runs:
        raise RegistryError(f"{study}: no training run '{run}' is registered; the newest are {', '.join(runs[:3])}")
    found = (set_of_run(study, parts, name) for name in ([run] if run else runs))
    chosen = next((candidate for candidate in found if candidate is not None), None)
    if chosen is None:
        which = f"training run {run} has not" if run else "no training run has"
        raise RegistryError(f"{study}: {which} all of {', '.join(parts)} registered; train again")
    return chosen


def run_of_versions(study: str, parts: list[str], named: dict[str, int]) -> str:
    """Return the training run that some parts' versions come from.

    Raises `RegistryError`: a part or a version is not there, or the versions come from different trainings.
    """
    runs: dict[str, str] = {}
    for part, number in named.items():
        if part not in parts:
            raise RegistryError(f"{study}: has no part '{part}'; its parts are {', '.join(parts)}")
        listed = {int(version.version): version for version in versions_of(model_name(study, part))}
        if number not in listed:
            known = ", ".join(map(str, listed)) or "none"
            raise RegistryError(f"{model_name(study, part)}: has no version {number}; there are {known}")
        runs[part] = str(listed[number].tags.get("training_run", "unknown"))
    if len(set(runs.values())) > 1:
        trainings = ", ".join(f"{part} v{named[part]} is of training {run}" for part, run in runs.items())
        raise RegistryError(f"{study}: {trainings}; name versions of one training, or give --run")
    return next(iter(runs.values()))
