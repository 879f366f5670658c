"""K-fold cross-validation over all stimuli, training and test together; for small datasets such as digits69.

Every fold fits its own encoder and regressor; a stimulus's repetitions stay in one fold; nothing of it is registered.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import ConfigError
from core.progress import track
from core.seeds import rng_for, seed_for
from evaluation import scores
from evaluation.controls import shuffle_stimuli
from feature_store import Store
from feature_store.sources.base import SPLITS
from feature_store.views import mean_over_repeats
from models.parts import fit_encoder, fit_regressor
from models.predict import predict_stimuli
from models.regressors.rows import TrainingRows
from studies.predictions import common_stimuli
from studies.study import Study

Array = NDArray[Any]


def cross_validate(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    """Return ``{"folds": K, "repeats": R, "n": stimuli, "targets": {role: {"rows": …}}}``, rows as in scores.json.

    Every stimulus's value is averaged over the repeats (other folds each time) and the subjects before the bootstrap.
    """
    targets, n = {}, 0
    for role, target in study.roles.regressed().items():
        rows = {subject: _all_rows(study, store, subject, target) for subject in subjects}
        first = rows[common_stimuli({subject: one.names for subject, one in rows.items()})]
        groups, n = first.groups, len(first.names)
        repeats = [(one, repeat) for one in rows.values() for repeat in range(study.evaluation.fold_repeats)]
        values = [_one_repeat(study, *which) for which in track(repeats, f"cross-validating {target}")]
        summary = scores.summarise(scores.average(values), seed=study.seed, groups=groups)
        targets[role] = {"target": target, "rows": summary}
    return {
        "folds": study.evaluation.folds,
        "repeats": study.evaluation.fold_repeats,
        "n": n,
        "targets": targets,
    }


@dataclass(frozen=True)
class _Rows:
    """All trials of a subject with all stimuli's targets.

    `responses` (trial, voxel), `trials` the stimulus of each, `names` the stimuli, `truth` (stimulus, …).
    """

    subject: str
    space: str
    responses: Array
    trials: list[str]
    names: list[str]
    truth: Array
    groups: list[str] | None


def _one_repeat(study: Study, rows: _Rows, repeat: int) -> scores.Values:
    folds = study.evaluation.folds or 0
    if len(rows.names) < 2 * folds:
        raise ConfigError(
            f"evaluation.folds: {folds} folds of {len(rows.names)} stimuli; use at most {len(rows.names) // 2}"
        )
    fold_of = np.empty(len(rows.names), np.int64)
    fold_of[rng_for(study.seed, "folds", repeat).permutation(len(rows.names))] = np.arange(len(rows.names)) % folds
    predicted, mean = np.empty_like(rows.truth), np.empty_like(rows.truth)
    for fold in range(folds):
        held = fold_of == fold
        predicted[held], mean[held] = _fit_fold(study, rows, held)
    made = {"reconstruction": predicted, "mean_predictor": mean, "oracle": rows.truth}
    values = _values(study, rows, made)
    values["shuffled_brain"] = _shuffled(study, rows, predicted, fold_of, repeat)
    return {row: values[row] for row in scores.ROWS}


def _values(study: Study, rows: _Rows, made: dict[str, Array]) -> scores.Values:
    spaces = {name: {rows.space: values} for name, values in made.items()}
    truth = {rows.space: rows.truth}
    return scores.per_stimulus(spaces, truth, metrics=study.evaluation.metrics, groups=rows.groups)


def _shuffled(study: Study, rows: _Rows, predicted: Array, fold_of: Array, repeat: int) -> dict[str, Array]:
    """Permute within folds only: elsewhere the model of a fold would meet responses it was trained on.

    A fold's share of stimuli that stay in place is larger than that of all, so this control errs on the high side.
    """
    order = np.arange(len(predicted))
    for fold in np.unique(fold_of):
        here = np.flatnonzero(fold_of == fold)
        order[here] = here[shuffle_stimuli(len(here), seed_for(study.seed, "shuffled folds", repeat, int(fold)))]
    return _values(study, rows, {"shuffled_brain": predicted[order]})["shuffled_brain"]


def _fit_fold(study: Study, rows: _Rows, held: Array) -> tuple[Array, Array]:
    """Return predictions for the held-out stimuli, and the mean of the others' targets."""
    position = {name: row for row, name in enumerate(rows.names)}
    row_of = np.array([position[name] for name in rows.trials])
    inside, outside = ~held[row_of], np.flatnonzero(held[row_of])
    encoder = fit_encoder(study.encoder, {rows.subject: rows.responses[inside]})
    fitted_on = [rows.trials[row] for row in np.flatnonzero(inside)]
    responses = rows.responses[inside]
    if study.regressor.repeats == "mean":
        responses, fitted_on = mean_over_repeats(responses, fitted_on)
    targets = rows.truth[[position[name] for name in fitted_on]]
    training = TrainingRows(encoder.encode(rows.subject, responses), targets, fitted_on)
    regressor = fit_regressor(study.regressor, "fold", {rows.subject: training})
    shown, predicted = predict_stimuli(
        encoder, regressor, rows.subject, rows.responses[outside], [rows.trials[row] for row in outside]
    )
    in_order = [shown.index(rows.names[row]) for row in np.flatnonzero(held)]
    return predicted[in_order], rows.truth[~held].mean(axis=0)


def _all_rows(study: Study, store: Store, subject: str, target: str) -> _Rows:
    parts = [
        store.pairs([subject], target, split, rois=study.encoder.rois, repeats="single")[subject] for split in SPLITS
    ]
    trials = [name for part in parts for name in part.stimuli]
    truth: dict[str, Array] = {}
    for part in parts:
        truth |= dict(zip(part.stimuli, np.asarray(part.targets, dtype=np.float32), strict=True))
    tables = pd.concat([store.target(target).stimuli(split) for split in SPLITS]).set_index("stimulus")
    names = [name for name in tables.index if name in truth]  # the source's order, the same for every subject
    return _Rows(
        subject=subject,
        space=study.space(target),
        responses=np.concatenate([np.asarray(part.responses) for part in parts]),
        trials=trials,
        names=names,
        truth=np.stack([truth[name] for name in names]),
        groups=list(tables.loc[names, "group"]) if "group" in tables else None,
    )
