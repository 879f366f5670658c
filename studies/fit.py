"""Fits a study's encoder and regressors on its stores and scores them: a training run on disk, not yet registered."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.files import code_digest, digest_folder, digest_json, read_json, staged_folder, write_json
from core.progress import report as progress
from core.progress import track
from evaluation import scores
from evaluation.controls import mean_prediction, shuffle_stimuli
from feature_store import Store
from models.encoders.standardise import Standardise
from models.parts import Encoder, Regressor, save_part
from models.predict import predict_stimuli
from models.regressors.ridge import Ridge, fit_ridge
from studies.home import shown
from studies.ingest import subjects_of
from studies.references import TrainingRef
from studies.runs import git_commit, publish_latest, run_name
from studies.study import Study

RECORD = "training.json"
SCORES = "scores.json"


def fit(study: Study) -> TrainingRef:
    """Fit and score the study's models, unless a run made from the same stores, settings and code is already there.

    Writes ``outputs/<study>/training/<run>/`` with `scores.json`, `training.json` and one folder per part.
    """
    store = Store(study.store)
    subjects = subjects_of(study)
    record = _record(study, store, subjects)
    found = _find_run(study, record["fingerprint"])
    if found is not None:
        progress(f"training {found.name} is as it was", 1, 1)
        return _reference(study, found, fresh=True)
    folder = study.outputs / "training" / run_name(record["fingerprint"])
    encoder = fit_encoder(study, {s: store.responses(s).values("train", rois=study.encoder.rois)[0] for s in subjects})
    with staged_folder(folder) as building:
        regressed = {**study.roles.regressed(), **{name: name for name in study.training.baselines}}
        regressors = {
            role: fit_regressor(study, store, encoder, subjects, target)
            for role, target in track(list(regressed.items()), "fitting regressors")
        }
        report = _score(study, store, encoder, regressors, folder.name)
        digests = {"encoder": save_part(building / "encoder", encoder, subjects=subjects)}
        for role in study.roles.regressed():
            digests[f"regressor-{role}"] = save_part(
                building / f"regressor-{role}", regressors[role], encoder_digest=digests["encoder"]
            )
        write_json(building / SCORES, report)
        write_json(building / RECORD, {**record, "digests": digests})
    publish_latest(folder)
    return _reference(study, folder, fresh=False)


def fit_encoder(study: Study, responses: dict[str, NDArray[Any]]) -> Standardise:
    """Fit the study's encoder on training trials, per subject (trial, voxel)."""
    del study  # one kind so far; the config's kind chooses the class once there are more
    return Standardise.fit(responses)


def fit_regressor(study: Study, store: Store, encoder: Encoder, subjects: list[str], target: str) -> Ridge:
    """Fit one target's regressor for every subject on the training rows."""
    fits, shape = {}, ()
    for subject in subjects:
        pairs = store.pairs(subject, target, "train", rois=study.encoder.rois, repeats=study.regressor.repeats)
        shape = pairs.targets.shape[1:]
        fits[subject] = fit_ridge(
            encoder.encode(subject, pairs.responses),
            pairs.targets.reshape(len(pairs.targets), -1).astype(np.float32),
            pairs.stimuli,
            study.regressor.penalties,
        )
    return Ridge(target, shape, fits)


def score_predictions(
    study: Study,
    space: str,
    predicted: NDArray[Any],
    truth: NDArray[Any],
    mean: NDArray[Any],
    groups: list[str] | None,
    name: str = "reconstruction",
) -> scores.Values:
    """Return per-stimulus values of a route beside the mean predictor and the shuffled brain, for predicted targets.

    The shuffled brain is averaged over several orders, because one order of few stimuli says little.
    """
    truth = truth.astype(np.float32)
    metrics = study.evaluation.metrics

    def of(rows: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        values = scores.per_stimulus({"row": {space: rows}}, {space: truth}, metrics=metrics, groups=groups)
        return values["row"]

    orders = [shuffle_stimuli(len(truth), study.seed + index) for index in range(study.evaluation.permutations)]
    shuffled = scores.average([{"shuffled_brain": of(predicted[order])} for order in orders])
    return {name: of(predicted), "mean_predictor": of(mean), **shuffled}


def groups_of(store: Store, target: str, stimuli: list[str]) -> list[str] | None:
    """Return the class of each test stimulus, or None where the study has no classes."""
    table = store.target(target).stimuli("test").set_index("stimulus")
    return list(table.loc[stimuli, "group"]) if "group" in table else None


def _score(study: Study, store: Store, encoder: Encoder, regressors: dict[str, Ridge], run: str) -> dict[str, Any]:
    by_role: dict[str, Any] = {}
    n_test = 0
    for role, regressor in track(list(regressors.items()), "scoring on test stimuli"):
        per_subject, groups = [], None
        for subject in regressor.fits:
            stimuli, predicted, truth = predict_test(study, store, encoder, regressor, subject)
            groups = groups_of(store, regressor.target, stimuli)
            mean = mean_prediction(store.target(regressor.target).values("train")[0][:].astype(np.float32), len(truth))
            space = study.space(regressor.target)
            per_subject.append(score_predictions(study, space, predicted, truth, mean, groups, study.regressor.kind))
            n_test = len(stimuli)
        rows = scores.summarise(scores.average(per_subject), seed=study.seed, groups=groups)
        by_role[role] = {"target": regressor.target, "rows": rows, "penalties": regressor.state()[0]["penalties"]}
    report = {"schema": scores.SCHEMA, "study": study.study, "run": run, "n_test": n_test, "targets": by_role}
    if study.evaluation.folds is not None:
        from studies.cross_validate import cross_validate

        report["cross_validation"] = cross_validate(study)
    return report


def predict_test(
    study: Study, store: Store, encoder: Encoder, regressor: Regressor, subject: str
) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    """Return test stimuli, predictions averaged over their repetitions, and true targets (stimulus, …).

    Stimuli come in the order of the targets, which is that of the source, whatever the order they were shown in.
    """
    pairs = store.pairs(subject, regressor.target, "test", rois=study.encoder.rois, repeats="single")
    shown, predicted = predict_stimuli(encoder, regressor, subject, pairs.responses, pairs.stimuli)
    row_of = {name: row for row, name in enumerate(shown)}
    truth, names = store.target(regressor.target).values("test")
    rows = np.array([row for row, name in enumerate(names) if name in row_of])
    stimuli = [names[row] for row in rows]
    return stimuli, predicted[[row_of[name] for name in stimuli]], truth[rows]


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
        "code": code_digest(__name__, Standardise.__module__, Ridge.__module__),
    }
    return {
        **made_from,
        "fingerprint": digest_json(made_from),
        "subjects": subjects,
        "git_commit": git_commit(),
        "study": study.study,
    }


def _find_run(study: Study, fingerprint: str) -> Path | None:
    for record in sorted((study.outputs / "training").glob(f"[0-9]*/{RECORD}"), reverse=True):
        content = read_json(record)
        if content["fingerprint"] == fingerprint and all(
            (record.parent / part).is_dir() and digest_folder(record.parent / part) == digest
            for part, digest in content["digests"].items()
        ):
            return record.parent
    return None


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
