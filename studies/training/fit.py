"""Fits a study's routes on its stores, chooses one on validation, scores all: a training run on disk, not registered.

Several processes train the networks together; see `studies.training.distributed_worker`.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.checkout import relative_to_root
from core.code import code_digest
from core.config import nearest
from core.errors import StoreMissing
from core.files import digest_json, read_json, staged_folder, write_bytes, write_json
from core.progress import report
from evaluation.report.charts.routes import route_table_png
from evaluation.statistics import scores
from feature_store import Store
from feature_store.sources.base import SPLITS
from models.decoders.build import Encoder, Regressor, fit_regressors, save_part
from models.training.checkpoints import Checkpoints
from models.training.distributed import workers
from models.training.loop import History
from models.training.stage import Context
from studies.decoding.predictions import stimuli_trained_on
from studies.decoding.training_data import TrainingData, read_training_data
from studies.decoding.voxel_record import record_voxels
from studies.references import TrainingRef
from studies.runs import file_digests, find_run, git_commit, publish_latest, run_name
from studies.study import Study
from studies.training.cross_validation import cross_validate, require_folds
from studies.training.pictures import curves_png, filled_in_png, validation_sheet
from studies.training.routes import Choice, FittedRoute, choose_route, fit_route
from studies.training.scores import RoleScores, predict_role

RECORD = "training.json"
SCORES = "scores.json"
CURVES = "curves.json"
VALIDATION = "validation.json"
PICTURES = "pictures"


def fit(study: Study) -> TrainingRef:
    """Fit and score the study's models, unless a run made from the same stores, settings and code is already there.

    Writes ``outputs/<study>/training/<run>/`` with `scores.json`, `curves.json`, `training.json`, `pictures/` and one
    folder per part. Killed, it goes on from the checkpoints in a folder beside, to the same bytes.
    """
    store = Store(study.store)
    record = training_made_from(study, store, stored_subjects(study, store))
    runs = study.outputs / "training"
    found = find_run(runs, RECORD, record["fingerprint"])
    folder = found or runs / run_name(record["fingerprint"])
    unfinished = runs / f".unfinished-{record['fingerprint'][:12]}"
    if found is None:
        context = Context(study.seed, checkpoints=Checkpoints(unfinished, made_from=_sources(record)), scratch=runs)
        with _destination(folder, unfinished.with_name(f"{unfinished.name}.staging")) as building:
            digests = _fit_into(study, store, record["subjects"], building, folder.name, context)
            record |= {"digests": digests, "processes": workers().num_processes}
            record |= {"voxels": _voxels(study, store, record["subjects"])}
            write_json(building / RECORD, {**record, "files": file_digests(building)})
    else:
        report(f"training {found.name} is as it was", 1, 1)
    if workers().is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
        publish_latest(folder)
    workers().wait_for_everyone()
    return _reference(study, folder, fresh=found is not None) if workers().is_main_process else _nothing(study, record)


@contextmanager
def _destination(folder: Path, staging: Path) -> Iterator[Path]:
    """Yield where a run is written: of several processes, the first one's is kept.

    The place where it is built is not named by the time, so that the next one clears what a killed one left there.
    """
    if workers().is_main_process:
        with staged_folder(folder, staging) as building:
            yield building
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)


def stored_subjects(study: Study, store: Store) -> list[str]:
    """Return the subjects of the store that belong to the study; the recordings themselves are not needed.

    Raises
    ------
    StoreMissing
        A subject that the study names has not been ingested, or none has.
    """
    there = store.names("responses")
    wanted = study.source.named_subjects or there
    for subject in wanted:
        if subject not in there:
            raise StoreMissing(
                f"{study.store}: no responses of {subject}{nearest(subject, there)}; run 'brain2video responses'"
            )
    if not wanted:
        raise StoreMissing(f"{study.store}: no responses of any subject; run 'brain2video responses'")
    return wanted


def _fit_into(
    study: Study, store: Store, subjects: list[str], folder: Path, run: str, context: Context
) -> dict[str, str]:
    """Write every part, the scores and the pictures into a folder, and return the parts' digests."""
    curves: dict[str, History] = {}
    context = replace(context, log=curves.__setitem__)
    for target in study.roles.regressed().values():  # before hours of training, not after them
        require_folds(study, sum(len(store.target(target).stimuli(split)) for split in SPLITS))
    data = read_training_data(study, store, subjects)
    choice = choose_route(study, data, context, score_alone=True)
    gathered = {role: RoleScores(study, target) for role, target in study.roles.regressed().items()}
    kept: FittedRoute | None = None
    pretrained: dict[str, Any] = {}
    for done, (name, route) in enumerate(study.training.routes.items()):
        report("fitting and scoring routes", done, len(study.training.routes), name)
        fitted = fit_route(study, route, data, context.within(name))
        for role, regressor in fitted.regressors.items():
            gathered[role].add(name, regressor, predict_role(study, store, fitted.encoder, regressor))
        if not done:
            baselines = _score_baselines(study, store, data, fitted, name, context)
        if held_out := fitted.encoder.state()[0].get("held_out"):
            pretrained[name] = held_out
        _picture_of_filling_in(study, data, name, fitted.encoder, folder)
        kept = fitted if name == choice.chosen else kept
    report("fitting and scoring routes", len(study.training.routes), len(study.training.routes))
    assert kept is not None
    first = next(iter(study.training.routes))
    targets = {role: one.report(choice.chosen, first) for role, one in gathered.items()} | baselines
    n_test = next(iter(gathered.values())).n_test
    scored = {"schema": scores.SCHEMA, "study": study.study, "run": run, "n_test": n_test, "targets": targets}
    scored |= {"selection": choice.summary(study), "pretraining": pretrained}
    if study.evaluation.folds is not None:
        scored["cross_validation"] = cross_validate(study, store, subjects)
    write_json(folder / SCORES, scored)
    write_bytes(folder / PICTURES / "routes.png", route_table_png(scored))
    _write_curves(folder, curves)
    _write_validation(study, store, choice, subjects, folder)
    parts: dict[str, Encoder | Regressor] = {"encoder": kept.encoder}
    parts |= {f"regressor-{role}": regressor for role, regressor in kept.regressors.items()}
    return {name: save_part(folder / name, part, route=choice.chosen) for name, part in parts.items()}


def _write_curves(folder: Path, curves: dict[str, History]) -> None:
    write_json(folder / CURVES, {stage: vars(history) for stage, history in curves.items()})
    if curves:
        write_bytes(folder / PICTURES / "curves.png", curves_png(curves))


def _write_validation(study: Study, store: Store, choice: Choice, subjects: list[str], folder: Path) -> None:
    """Write what promotion compares by, and what a person may look at before it."""
    if choice.validation is None or not workers().is_main_process:
        return
    write_json(folder / VALIDATION, choice.validation.record(choice.chosen, subjects))
    sheet = validation_sheet(study, store, choice.validation)
    if sheet is not None:
        write_bytes(folder / PICTURES / "held-out.png", sheet)


def _score_baselines(
    study: Study, store: Store, data: TrainingData, fitted: FittedRoute, name: str, context: Context
) -> dict[str, Any]:
    """Regress and score the targets that are there for comparison alone, by the first route."""
    config, made = study.training.routes[name].regressor, {}
    for target in study.training.baselines:
        roles = data.roles(config, data.features(config, fitted.encoder), {target: target})
        regressor = fit_regressors(config, roles, context.within(name).within("baselines"))[target]
        gathered = RoleScores(study, target)
        gathered.add(name, regressor, predict_role(study, store, fitted.encoder, regressor))
        made[target] = gathered.report(name, name) | {"chosen": None}
    return made


def _picture_of_filling_in(study: Study, data: TrainingData, name: str, encoder: Encoder, folder: Path) -> None:
    subject, brain = next(iter(data.brains.items()))
    made = filled_in_png(encoder, subject, brain, study.seed)
    if made is not None:
        write_bytes(folder / PICTURES / f"{name}-filled-in.png", made)


def training_made_from(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    """Return what a training of these subjects would be made from now, as `training.json` holds it.

    Returns
    -------
    dict
        `stores`, `settings` and `code`, the `fingerprint` of these three, and `subjects`, `targets` and `git_commit`.

    Raises
    ------
    StoreMissing
        A subject or a target is not in the store.
    """
    targets = {*study.roles.regressed().values(), *study.roles.align, *study.training.baselines}
    made_from = {
        "stores": {
            **{f"responses/{subject}": store.responses(subject).digest for subject in subjects},
            **{f"targets/{target}": store.target(target).digest for target in sorted(targets)},
        },
        "settings": {
            "seed": study.seed,
            "roles": study.roles.model_dump(mode="json"),
            "training": study.training.model_dump(mode="json"),
            "order": list(study.training.routes),  # of equal routes the first is preferred; a digest knows no order
            "evaluation": study.evaluation.model_dump(mode="json"),
        },
        "code": code_digest(fit, study.training, study.generator, study.captioner, study.targets),
    }
    fingerprint = digest_json(made_from)
    described = {role: describe_target(store, name) for role, name in study.roles.regressed().items()}
    more = {"subjects": subjects, "targets": described, "git_commit": git_commit()}
    return {**made_from, "fingerprint": fingerprint, **more}


def _voxels(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    """Return what later responses of each subject are held against."""
    stimuli = stimuli_trained_on(study, store, subjects)
    return {s: record_voxels(store, s, study.training.rois, stimuli).model_dump(mode="json") for s in subjects}


def describe_target(store: Store, name: str) -> dict[str, str]:
    """Return a target's name, extractor and revision, as its store says them."""
    said = store.target(name).attributes
    return {"name": name, "extractor": str(said["extractor"]), "revision": str(said["revision"])}


def _sources(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("stores", "settings", "code")}


def _reference(study: Study, folder: Path, *, fresh: bool) -> TrainingRef:
    record = read_json(folder / RECORD)
    return TrainingRef(
        study=study.study,
        run=folder.name,
        folder=relative_to_root(folder),
        fingerprint=record["fingerprint"],
        digests=record["digests"],
        fresh=fresh,
    )


def _nothing(study: Study, record: dict[str, Any]) -> TrainingRef:
    """Return what a process that keeps nothing hands on."""
    return TrainingRef(study=study.study, run="", folder="", fingerprint=record["fingerprint"], digests={}, fresh=False)
