"""Registers a training run in the MLflow registry, whole or not at all."""

from typing import Any

from core.files import read_json
from models.registry.register import find_registered, register
from models.registry.sets import ModelSet, TrainedSet
from models.weights import load_weights
from studies.fit import RECORD, SCORES
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
            widths={part: _widths(load_weights(folder / part)) for part in study.parts},
            record={
                "fingerprint": training.fingerprint,
                "stores": record["stores"],
                "subjects": record["subjects"],
                "roles": record["settings"]["roles"],
                "rois": record["settings"]["encoder"].get("rois"),
                "git_commit": record["git_commit"],
                "zenml_run": zenml_run,
            },
            metrics=_flat_metrics(read_json(folder / SCORES)),
            artifacts=[folder / SCORES, folder / RECORD],
        )
    )


def _widths(saved: tuple[dict[str, Any], dict[str, Any]]) -> tuple[int, int]:
    config, tensors = saved
    if config["part"] == "encoder":
        kept = [tensors[f"{subject}.kept"] for subject in config["subjects"]]
        return _common([len(k) for k in kept]), _common([int(k.sum()) for k in kept])
    rows = [tensors[f"{subject}.rows"] for subject in config["penalties"]]
    duals = [tensors[f"{subject}.dual"] for subject in config["penalties"]]
    return _common([r.shape[1] for r in rows]), _common([d.shape[1] for d in duals])


def _common(widths: list[int]) -> int:
    return widths[0] if len(set(widths)) == 1 else -1


def _flat_metrics(report: dict[str, Any]) -> dict[str, float]:
    """Return scores as ``z.ridge.latents.two_way`` to value, for MLflow's table of runs."""
    return {
        f"{role}.{row}.{name}": entry["value"]
        for role, scored in report["targets"].items()
        for row, entries in scored["rows"].items()
        for name, entry in entries.items()
        if entry["value"] is not None
    }
