"""Registers a trained set in MLflow: every part or none, so that the version numbers of a set agree."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
from mlflow.entities import Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.utils.time import get_current_time_millis

from core.progress import report
from models.registry.client import client, experiment, explained, versions_of
from models.registry.sets import ModelSet, TrainedSet, model_name

BATCH = 1000
"""Metrics in one message to MLflow, which takes no more."""
REQUIREMENTS = ["numpy", "safetensors", "torch"]
"""What a loaded part needs beside this project; naming them spares MLflow's slow guess."""


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


def register(trained: TrainedSet) -> ModelSet:
    """Log a training run to MLflow and register its parts.

    The models are logged first, which is the part that may fail; the versions are created in a row, and taken back
    if one cannot be.
    """
    connection = client()
    with explained(f"registering {trained.study}"):
        run = connection.create_run(experiment(trained.study), run_name=trained.run)
        run_id = str(run.info.run_id)
        try:
            _log_run(connection, run_id, trained)
            sources = _log_models(run_id, trained)
            versions = _create_versions(connection, run_id, trained, sources)
        except BaseException:
            connection.set_terminated(run_id, "FAILED")
            raise
        connection.set_terminated(run_id, "FINISHED")
    return ModelSet(
        study=trained.study,
        run=trained.run,
        versions=versions,
        digests=trained.digests,
        record=trained.record,
        mlflow_run=run_id,
    )


def _log_run(connection: MlflowClient, run_id: str, trained: TrainedSet) -> None:
    now = get_current_time_millis()
    metrics = [Metric(name, value, now, 0) for name, value in trained.metrics.items() if np.isfinite(value)]
    params = [Param(name, str(value)) for name, value in trained.record.items() if isinstance(value, str | int | float)]
    connection.log_batch(run_id, metrics=metrics, params=params)
    points = [
        Metric(name, value, now, step)
        for name, curve in trained.curves.items()
        for step, value in curve
        if np.isfinite(value)
    ]
    for first in range(0, len(points), BATCH):
        report("logging curves to MLflow", first, len(points))
        connection.log_batch(run_id, metrics=points[first : first + BATCH])
    if points:
        report("logging curves to MLflow", len(points), len(points))
    for path in trained.artifacts:
        log = connection.log_artifacts if path.is_dir() else connection.log_artifact
        log(run_id, str(path), *([path.name] if path.is_dir() else []))


def _log_models(run_id: str, trained: TrainedSet) -> dict[str, str]:
    sources = {}
    with mlflow.start_run(run_id=run_id):
        for done, (part, folder) in enumerate(trained.folders.items()):
            report("logging models to MLflow", done, len(trained.folders))
            with warnings.catch_warnings():
                # The signature is given; an example would load the model once more only to infer the same.
                warnings.filterwarnings("ignore", message=".*input example was not provided.*")
                info = mlflow.pyfunc.log_model(
                    name=part,
                    loader_module="models.registry.loader",
                    data_path=str(folder),
                    signature=_signature(*trained.widths[part]),
                    pip_requirements=REQUIREMENTS,
                )
            sources[part] = str(info.model_uri)
    report("logging models to MLflow", len(sources), len(sources))
    return sources


def _create_versions(
    connection: MlflowClient, run_id: str, trained: TrainedSet, sources: dict[str, str]
) -> dict[str, int]:
    undo: list[Callable[[], None]] = []
    versions = {}
    try:
        for part, source in sources.items():
            name = model_name(trained.study, part)
            _ensure_model(connection, name, trained.study, part)
            version = connection.create_model_version(name, source, run_id, tags=_tags(trained, part))
            undo.append(lambda n=name, v=version.version: connection.delete_model_version(n, v))  # type: ignore[misc]
            versions[part] = int(version.version)
    except BaseException:
        for step in reversed(undo):
            step()
        raise
    return versions


def _ensure_model(connection: MlflowClient, name: str, study: str, part: str) -> None:
    if not connection.search_registered_models(f"name = '{name}'"):
        connection.create_registered_model(name, description=f"{part} of the study {study}")


def _tags(trained: TrainedSet, part: str) -> dict[str, str]:
    return {
        "study": trained.study,
        "part": part,
        "training_run": trained.run,
        "digest": trained.digests[part],
        "encoder_digest": trained.digests["encoder"],
        "fingerprint": str(trained.record["fingerprint"]),
        "record": json.dumps(trained.record, sort_keys=True),
    }


def _signature(inputs: int, outputs: int) -> ModelSignature:
    def tensor(width: int) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, width))])

    subject: Any = ParamSchema([ParamSpec("subject", "string", default="")])
    return ModelSignature(tensor(inputs), tensor(outputs), subject)
