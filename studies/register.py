"""Registers a training run in the MLflow registry, whole or not at all."""

from typing import Any

from core.files import read_json
from models.parts import load_part
from models.registry.register import find_registered, register
from models.registry.sets import ModelSet, TrainedSet
from studies.fit import CURVES, PICTURES, RECORD, SCORES
from studies.home import home
from studies.references import TrainingRef
from studies.study import Study


def register_training(study: Study, training: TrainingRef, zenml_run: str = "") -> ModelSet:
    """Register a training run's parts, unless a set made from the same is already registered."""
    found = find_registered(study.study, study.parts, training.fingerprint)
    if found is not None and found.digests == training.digests:
        return found
    folder = home() / training.folder
    record = read_json(folder / RECORD)
    return register(
        TrainedSet(
            study=study.study,
            run=training.run,
            folders={part: folder / part for part in study.parts},
            digests=training.digests,
            widths={part: load_part(folder / part).widths for part in study.parts},
            record={
                "fingerprint": training.fingerprint,
                "stores": record["stores"],
                "subjects": record["subjects"],
                "roles": record["settings"]["roles"],
                "route": read_json(folder / SCORES)["selection"]["chosen"],
                "rois": record["settings"]["training"]["rois"],
                "git_commit": record["git_commit"],
                "zenml_run": zenml_run,
            },
            metrics=_flat_metrics(read_json(folder / SCORES)),
            curves=_curves(read_json(folder / CURVES)),
            artifacts=[folder / SCORES, folder / RECORD, folder / CURVES, folder / PICTURES],
        )
    )


def _flat_metrics(report: dict[str, Any]) -> dict[str, float]:
    """Return scores as ``z.ridge.latents.two_way`` to value, for MLflow's table of runs."""
    return {
        f"{role}.{row}.{name}": entry["value"]
        for role, scored in report["targets"].items()
        for row, entries in scored["rows"].items()
        for name, entry in entries.items()
        if entry["value"] is not None
    }


def _curves(curves: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Return every stage's losses as (step, value), by a name that MLflow draws as a curve."""
    made: dict[str, list[tuple[int, float]]] = {}
    for stage, history in curves.items():
        made[f"{stage}/loss"] = list(enumerate(history["losses"], start=1))
        if history["validation"]:
            made[f"{stage}/validation"] = [(int(step), value) for step, value in history["validation"]]
    return made
