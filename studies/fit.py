"""Fits a study's encoder and regressors on its stores and scores them: a training run on disk, not yet registered."""

from pathlib import Path
from typing import Any

import numpy as np

from core.code import code_digest
from core.config import nearest
from core.errors import StoreMissing
from core.files import digest_json, read_json, staged_folder, write_json
from core.progress import report, track
from feature_store import Store
from models.parts import Encoder, Regressor, fit_encoder, fit_regressor, save_part
from models.regressors.rows import TrainingRows
from studies.home import shown
from studies.references import TrainingRef
from studies.runs import file_digests, find_run, git_commit, publish_latest, run_name
from studies.score import score_training
from studies.study import Study

RECORD = "training.json"
SCORES = "scores.json"


def fit(study: Study) -> TrainingRef:
    """Fit and score the study's models, unless a run made from the same stores, settings and code is already there.

    Writes ``outputs/<study>/training/<run>/`` with `scores.json`, `training.json` and one folder per part.
    """
    store = Store(study.store)
    record = _record(study, store, stored_subjects(study, store))
    runs = study.outputs / "training"
    found = find_run(runs, RECORD, record["fingerprint"])
    folder = found or runs / run_name(record["fingerprint"])
    if found is None:
        with staged_folder(folder) as building:
            digests = _fit_into(study, store, record["subjects"], building, folder.name)
            write_json(building / RECORD, {**record, "digests": digests, "files": file_digests(building)})
    else:
        report(f"training {found.name} is as it was", 1, 1)
    publish_latest(folder)
    return _reference(study, folder, fresh=found is not None)


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


def _fit_into(study: Study, store: Store, subjects: list[str], folder: Path, run: str) -> dict[str, str]:
    """Write every part and the scores into a folder, and return the parts' digests."""
    rois = study.encoder.rois
    responses = {subject: store.responses(subject).values("train", rois=rois)[0] for subject in subjects}
    encoder = fit_encoder(study.encoder, {subject: np.asarray(values) for subject, values in responses.items()})
    wanted = {**study.roles.regressed(), **{name: name for name in study.training.baselines}}
    regressors = {
        role: fit_regressor(study.regressor, target, _training_rows(study, store, encoder, subjects, target))
        for role, target in track(list(wanted.items()), "fitting regressors")
    }
    write_json(folder / SCORES, score_training(study, store, encoder, regressors, run))
    parts: dict[str, Encoder | Regressor] = {"encoder": encoder}
    parts |= {f"regressor-{role}": regressors[role] for role in study.roles.regressed()}
    return {name: save_part(folder / name, part) for name, part in parts.items()}


def _training_rows(
    study: Study, store: Store, encoder: Encoder, subjects: list[str], target: str
) -> dict[str, TrainingRows]:
    rows = {}
    pairs = store.pairs(subjects, target, "train", rois=study.encoder.rois, repeats=study.regressor.repeats)
    for subject, joined in pairs.items():
        responses, targets = np.asarray(joined.responses), np.asarray(joined.targets)
        rows[subject] = TrainingRows(encoder.encode(subject, responses), targets, joined.stimuli)
    return rows


def _record(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    targets = {*study.roles.regressed().values(), *study.training.baselines}
    made_from = {
        "stores": {
            **{f"responses/{subject}": store.responses(subject).digest for subject in subjects},
            **{f"targets/{target}": store.target(target).digest for target in sorted(targets)},
        },
        "settings": {
            "seed": study.seed,
            "roles": study.roles.model_dump(),
            "encoder": study.encoder.model_dump(),
            "regressor": study.regressor.model_dump(),
            "training": study.training.model_dump(),
            "evaluation": study.evaluation.model_dump(),
        },
        "code": code_digest(
            __name__, "studies.score", "studies.predictions", "studies.cross_validate", stop=("studies",)
        ),
    }
    fingerprint = digest_json(made_from)
    return {**made_from, "fingerprint": fingerprint, "subjects": subjects, "git_commit": git_commit()}


def _reference(study: Study, folder: Path, *, fresh: bool) -> TrainingRef:
    record = read_json(folder / RECORD)
    return TrainingRef(
        study=study.study,
        run=folder.name,
        folder=shown(folder),
        fingerprint=record["fingerprint"],
        digests=record["digests"],
        fresh=fresh,
    )
