"""Registers a training run in the MLflow registry, all its parts or none."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.files import read_json
from core.progress import report
from feature_store import Store
from models.decoders.build import load_encoder, load_regressor
from models.registry.production import why_damaged
from models.registry.register import register
from models.registry.sets import ENCODER, ModelSet, TrainedSet, find_registered
from studies.registry.metric_names import scores_by_control, scores_by_route, scores_of_training
from studies.runs import (
    CURVES,
    PICTURES,
    RECORD,
    SCORES,
    TRAINING,
    VALIDATION,
    TrainingRef,
    finished_at,
    in_turn,
    started_at,
    without_places,
)
from studies.study import Study
from studies.training.routes import validation_summary

Array = NDArray[Any]
Examples = dict[str, tuple[Array, Array]]
Axes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def register_training(study: Study, training: TrainingRef, zenml_run: str = "") -> ModelSet:
    """Register a training run's parts, unless a set made from the same is already registered, whole."""
    with in_turn(study.outputs / TRAINING, f"{training.fingerprint[:12]}.registering", "registration"):
        registered = find_registered(study.study, study.parts, training.fingerprint)
        if registered is not None and registered.digests == training.digests:
            why = why_damaged(registered)
            if why is None:
                return registered
            report(f"training {training.run} is registered again: {why}", 1, 1)
        folder = project_root() / training.folder
        record, scores = read_json(folder / RECORD), read_json(folder / SCORES)
        held_out = folder / VALIDATION
        examples, free = _examples(folder, study.parts, Store(study.store), record)
        kept = [SCORES, RECORD, CURVES, PICTURES, *([VALIDATION] if held_out.is_file() else [])]
        return register(
            TrainedSet(
                study=study.study,
                run=training.run,
                folders={part: folder / part for part in study.parts},
                digests=training.digests,
                examples=examples,
                free=free,
                record={
                    "fingerprint": training.fingerprint,
                    "stores": record["stores"],
                    "subjects": load_encoder(folder / ENCODER).subjects,
                    "roles": record["settings"]["roles"],
                    "targets": record["targets"],
                    "voxels": record["voxels"],
                    "route": scores["selection"]["chosen"],
                    "rois": record["settings"]["training"]["rois"],
                    "git_commit": record["git_commit"],
                    "zenml_run": zenml_run,
                },
                validation=validation_summary(read_json(held_out)) if held_out.is_file() else {},
                metrics=scores_of_training(scores),
                routes=scores_by_route(scores),
                controls=scores_by_control(scores),
                settings=without_places(study.model_dump(mode="json")),
                started=started_at(training.run),
                finished=finished_at(record),
                curves=_curves(read_json(folder / CURVES)),
                artifacts=[folder / name for name in kept],
            )
        )


def _examples(folder: Path, parts: list[str], store: Store, record: dict[str, Any]) -> tuple[Examples, Axes]:
    """Return, by part, one test trial and what the part makes of it; and the axes along which subjects differ."""
    encoder = load_encoder(folder / ENCODER)
    subject = encoder.subjects[0]
    rois = record["settings"]["training"]["rois"]
    trial = np.asarray(store.responses(subject).view("test", rois=rois)[0][:1], np.float32)
    features = np.asarray(encoder.encode(subject, trial), np.float32)
    examples: Examples = {ENCODER: (trial, features)}
    free = tuple(
        (axis,) if width == -1 else () for axis, width in zip((trial.ndim - 1, 1), encoder.widths, strict=True)
    )
    axes: Axes = {ENCODER: (free[0], free[1])}
    for part in parts:
        if part != ENCODER:
            examples[part] = features, load_regressor(folder / part).predict(subject, features)
            axes[part] = free[1], ()
    return examples, axes


def _curves(curves: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Return every stage's losses as (step, value), by a name that MLflow draws as a curve."""
    drawn: dict[str, list[tuple[int, float]]] = {}
    for stage, history in curves.items():
        drawn[f"{stage}/loss"] = list(enumerate(history["losses"], start=1))
        if history["validation"]:
            drawn[f"{stage}/validation"] = [(int(step), value) for step, value in history["validation"]]
    return drawn
