"""Registers the parts of a training in MLflow, each with its signature and model card.

A card is what a person reads of a version in the MLflow UI: its description, and tags to search by.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version as installed
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

from core.progress import report
from core.subjects import is_group, members_of
from models.registry.client import client, explained
from models.registry.runs import log_datasets, logged_training, search_tags
from models.registry.sets import ENCODER, ModelSet, Score, TrainedSet, model_name, role_of

REQUIREMENTS = ("numpy", "safetensors", "torch")
"""What a loaded part needs beside this project; naming them spares MLflow's slow guess."""


def register(trained: TrainedSet) -> ModelSet:
    """Log a training run to MLflow and register its parts.

    The models are logged first, which is the part that may fail; the versions are created in a row, and taken back
    if one cannot be.
    """
    with explained(f"registering {trained.study}"), logged_training(trained) as run_id:
        sources = _log_models(run_id, trained)
        versions = _create_versions(client(), run_id, trained, sources)
    return ModelSet(
        study=trained.study,
        run=trained.run,
        versions=versions,
        digests=trained.digests,
        record=trained.record,
        mlflow_run=run_id,
    )


def _log_models(run_id: str, trained: TrainedSet) -> dict[str, tuple[str, str]]:
    """Log every part, and return where each lies with MLflow's id of it."""
    sources = {}
    with mlflow.start_run(run_id=run_id):
        log_datasets(trained)
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


LONGEST = 5000
"""Characters of a description that MLflow's databases keep."""
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
        "record": json.dumps(record, sort_keys=True),
        **search_tags(record),
    }
    scores = _scores(trained, part)
    tags |= {f"validation.{name}": score_text(score) for name, score in scores.items()}
    tags |= next(({"validation.how": str(score["how"])} for score in scores.values() if "how" in score), {})
    target = record.get("targets", {}).get(role_of(part))
    if target:
        tags |= {"target": target["name"], "extractor": target["extractor"], "extractor_revision": target["revision"]}
    return tags


def description(trained: TrainedSet, part: str, mlflow_run: str) -> str:
    """Return a version's description as Markdown: what it was trained on, and how good it is on held-out stimuli."""
    facts = "\n".join(_facts(trained, part, mlflow_run))
    rest = ["", _score_table(trained, part), NOTE_ON_USE]
    return facts[: LONGEST - len("\n\n".join(rest))] + "\n\n".join(rest)


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
