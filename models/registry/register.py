"""Logs runs to MLflow and registers the parts of a training, each with its signature and model card.

A card is what a person reads of a version in the MLflow UI: its description, and tags to search by.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID as PARENT
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE as NOTE
from mlflow.utils.time import get_current_time_millis

from core.progress import report
from core.subjects import is_group, members_of
from models.registry.client import client, experiment, explained
from models.registry.sets import ENCODER, ModelSet, Score, TrainedSet, model_name, role_of


def log_reconstruction(
    chosen: ModelSet, run: str, metrics: Mapping[str, float], note: str, artifacts: Sequence[Path]
) -> str:
    """Log a reconstruction to the study's experiment and return MLflow's id of the run.

    Parameters
    ----------
    chosen : what it was made with; its training run is named in a tag
    run : the reconstruction's name
    metrics : by name; what is not finite is left out
    note : the run's description
    artifacts : files, such as the gallery, which MLflow shows

    Raises
    ------
    ServerError
        MLflow cannot be reached, or refuses; the run is marked as failed where there is one.
    """
    connection = client()
    now = get_current_time_millis()
    tags = {"kind": "reconstruction", "training": chosen.run, "models": str(chosen), NOTE: note}
    if chosen.mlflow_run:
        tags[PARENT] = chosen.mlflow_run
    with explained(f"logging the reconstruction {run}"):
        made = connection.create_run(experiment(chosen.study), run_name=run, tags=tags)
        run_id = str(made.info.run_id)
        try:
            logged = [Metric(name, float(value), now, 0) for name, value in metrics.items() if np.isfinite(value)]
            connection.log_batch(run_id, metrics=logged)
            for path in artifacts:
                connection.log_artifact(run_id, str(path))
        except BaseException:
            connection.set_terminated(run_id, "FAILED")
            raise
        connection.set_terminated(run_id, "FINISHED")
    return run_id


BATCH = 1000
"""Metrics in one message to MLflow, which takes no more."""
REQUIREMENTS = ("numpy", "safetensors", "torch")
"""What a loaded part needs beside this project; naming them spares MLflow's slow guess."""
DIGEST = 36
"""Characters that MLflow keeps of a dataset's digest."""


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
    values = trained.metrics | {f"validation.{name}": score["value"] for name, score in trained.validation.items()}
    metrics = [Metric(name, value, now, 0) for name, value in values.items() if np.isfinite(value)]
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


def _log_datasets(trained: TrainedSet) -> None:
    """Name the stores that the models saw as the active run's inputs, by digest; their values stay where they are."""
    for name, digest in trained.record.get("stores", {}).items():
        source = CodeDatasetSource({"store": f"data/{trained.study}/features.zarr/{name}"})
        mlflow.log_input(MetaDataset(source=source, name=name, digest=digest[:DIGEST]), context="training")


def _log_models(run_id: str, trained: TrainedSet) -> dict[str, tuple[str, str]]:
    """Log every part, and return where each lies with MLflow's id of it."""
    sources = {}
    with mlflow.start_run(run_id=run_id):
        _log_datasets(trained)
        for done, (part, folder) in enumerate(trained.folders.items()):
            report("logging models to MLflow", done, len(trained.folders))
            info = mlflow.pyfunc.log_model(
                name=part,
                loader_module="models.registry.loader",
                data_path=str(folder),
                signature=_signature(trained, part),
                input_example=np.asarray(trained.examples[part][0], np.float32),
                pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
            )
            sources[part] = str(info.model_uri), str(info.model_id)
    report("logging models to MLflow", len(sources), len(sources))
    return sources


def _create_versions(
    connection: MlflowClient, run_id: str, trained: TrainedSet, sources: dict[str, tuple[str, str]]
) -> dict[str, int]:
    undo: list[Callable[[], None]] = []
    versions = {}
    try:
        for part, (source, model_id) in sources.items():
            name = model_name(trained.study, part)
            if not connection.search_registered_models(f"name = '{name}'"):
                connection.create_registered_model(name, description=f"{part} of the study {trained.study}")
            words = description(trained, part, run_id)
            version = connection.create_model_version(
                name, source, run_id, tags=tags_of(trained, part), description=words, model_id=model_id
            )
            undo.append(lambda n=name, v=version.version: connection.delete_model_version(n, v))  # type: ignore[misc]
            versions[part] = int(version.version)
    except BaseException:
        for step in reversed(undo):
            step()
        raise
    return versions


def _signature(trained: TrainedSet, part: str) -> ModelSignature:
    """Return the shapes of a row in and out; rows, and axes along which subjects differ, may have any length."""
    free = trained.free.get(part, ((), ()))

    def tensor(rows: Any, axes: tuple[int, ...]) -> Schema:
        shape = tuple(-1 if axis == 0 or axis in axes else length for axis, length in enumerate(np.shape(rows)))
        return Schema([TensorSpec(np.dtype(np.float32), shape)])

    rows_in, rows_out = trained.examples[part]
    subject: Any = ParamSchema([ParamSpec("subject", "string", default="")])
    return ModelSignature(tensor(rows_in, free[0]), tensor(rows_out, free[1]), subject)


SHORT = 12
"""Hex digits of a digest that a person is shown."""


def score_text(score: Score) -> str:
    """Return ``.631 [.620, .643]`` of a score, without the interval where there is none."""
    low, high = score["ci95"]
    interval = "" if low is None or math.isnan(low) else f" [{_number(low)}, {_number(high)}]"
    return f"{_number(score['value'])}{interval}"


def tags_of(trained: TrainedSet, part: str) -> dict[str, str]:
    """Return a version's tags: what reconstruction checks, and what a person may search by."""
    record = trained.record
    tags = {
        "study": trained.study,
        "part": part,
        "training_run": trained.run,
        "digest": trained.digests[part],
        "encoder_digest": trained.digests[ENCODER],
        "fingerprint": str(record["fingerprint"]),
        "record": json.dumps(record, sort_keys=True),
        "subjects": ", ".join(record["subjects"]),
    }
    tags |= {name: str(record[name]) for name in ("route", "git_commit", "zenml_run") if record.get(name)}
    scores = _scores(trained, part)
    tags |= {f"validation.{name}": score_text(score) for name, score in scores.items()}
    tags |= next(({"validation.how": str(score["how"])} for score in scores.values() if "how" in score), {})
    target = record.get("targets", {}).get(role_of(part))
    if target:
        tags |= {"target": target["name"], "extractor": target["extractor"], "extractor_revision": target["revision"]}
    return tags


def description(trained: TrainedSet, part: str, mlflow_run: str) -> str:
    """Return a version's description as Markdown: what it was trained on, and how good it is on held-out stimuli."""
    return "\n\n".join(["\n".join(_facts(trained, part, mlflow_run)), _score_table(trained, part), NOTE_ON_USE])


def _scores(trained: TrainedSet, part: str) -> dict[str, Score]:
    """Return the scores of a part: a regressor's are its role's, the encoder's are all."""
    return {
        name: score
        for name, score in trained.validation.items()
        if part == ENCODER or name.startswith(f"{role_of(part)}.")
    }


def _facts(trained: TrainedSet, part: str, mlflow_run: str) -> Iterator[str]:
    record = trained.record
    yield f"**{part}** of the study `{trained.study}`, training `{trained.run}`"
    yield f"- route: `{record.get('route', 'unknown')}`"
    yield f"- subjects: {', '.join(_subject(name, record) for name in record['subjects'])}"
    yield f"- voxels: {', '.join(record['rois']) if record.get('rois') else 'all'}"
    for role, target in record.get("targets", {}).items():
        if part in (ENCODER, f"regressor-{role}"):
            revision = target["revision"][:SHORT]
            yield f"- {role}: target `{target['name']}` of the extractor `{target['extractor']}`, revision `{revision}`"
    for name, digest in record.get("stores", {}).items():
        yield f"- data: `{name}` `{digest[:SHORT]}`"
    yield f"- files: `{trained.digests[part][:SHORT]}`, encoder `{trained.digests[ENCODER][:SHORT]}`"
    yield f"- commit `{record.get('git_commit', 'unknown')[:SHORT]}`, MLflow run `{mlflow_run}`" + (
        f", ZenML run `{record['zenml_run']}`" if record.get("zenml_run") else ""
    )


def _subject(name: str, record: dict[str, Any]) -> str:
    if is_group(name):
        counts = ", ".join(_subject(member, record) for member in members_of(name))
        return f"group decoder of {len(members_of(name))}: {counts}; it needs the responses of all to a stimulus"
    voxels = record.get("voxels", {}).get(name)
    return f"{name} ({voxels['voxels']:,} voxels)" if voxels else name


def _score_table(trained: TrainedSet, part: str) -> str:
    scores = _scores(trained, part)
    if not scores:
        return "No training stimuli were held out, so there are no validation scores."
    first = next(iter(scores.values()))
    rows = [f"| {name} | {score_text(score)} |" for name, score in scores.items()]
    head = f"| {first['n']} held-out training stimuli, centred | value [95 %] |"
    how = [f"\nScores: {first['how']}."] if "how" in first else []
    return "\n".join([head, "|---|---|", *rows, *how])


NOTE_ON_USE = (
    "Set the alias `production` on the encoder and every regressor of one training, or run `brain2video promote`; "
    "a mixed set is refused. Loading needs this project at the commit above; the files are safetensors and JSON."
)


def _number(value: float) -> str:
    return re.sub(r"(?<!\d)0\.", ".", f"{value:.3f}")
