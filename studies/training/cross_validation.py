"""K-fold cross-validation over all stimuli, training and test together; for small datasets such as digits69.

Every fold fits all routes and chooses one on stimuli held out of its own training part; a stimulus's repetitions stay
in one fold; nothing of it is registered.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import ConfigError
from core.progress import track
from core.seeds import rng_for, seed_for
from evaluation.statistics import scores
from evaluation.statistics.controls import shuffle_stimuli
from evaluation.statistics.scores import MEAN, ORACLE, RECONSTRUCTION, SHUFFLED
from evaluation.statistics.spaces import centre, centred
from feature_store import Store
from feature_store.sources.base import SPLITS
from models.decoders.predict import predict_stimuli
from models.decoders.rows import BrainRows
from models.training.stage import Context
from studies.decoding.predictions import common_stimuli
from studies.decoding.training_data import Target, TrainingData
from studies.study import Roles, Study
from studies.training.routes import choose_route, fit_route

Array = NDArray[Any]

CHOSEN = RECONSTRUCTION
"""The row of the route that each fold has chosen for itself."""


def cross_validate(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    """Return ``{"folds": K, "repeats": R, "n": stimuli, "targets": {role: {"rows": …}}}``, rows as in scores.json.

    Every stimulus's value is averaged over the repeats (other folds each time) and the subjects before the bootstrap.
    With several routes, each has a row, and `chosen` counts the folds that chose it.
    """
    targets, n = {}, 0
    for role, target in study.roles.regressed().items():
        alone = study.model_copy(update={"roles": Roles.model_validate({role: target, "align": study.roles.align})})
        rows = {subject: _all_rows(study, store, subject, target) for subject in subjects}
        first = rows[common_stimuli({subject: one.names for subject, one in rows.items()})]
        groups, n = first.groups, len(first.names)
        repeats = [(one, repeat) for one in rows.values() for repeat in range(study.evaluation.fold_repeats)]
        made = [_one_repeat(alone, role, *which) for which in track(repeats, f"cross-validating {target}")]
        values = scores.average([one for one, _ in made])
        targets[role] = {"target": target, "rows": scores.summarise(values, seed=study.seed, groups=groups)}
        if len(study.training.routes) > 1:
            first_route = next(iter(study.training.routes))
            chosen = [name for _, names in made for name in names]
            targets[role] |= {
                "chosen": {name: chosen.count(name) for name in study.training.routes},
                "baseline": first_route,
                "differences": scores.differences(values, first_route, seed=study.seed, groups=groups),
            }
    return {
        "folds": study.evaluation.folds,
        "repeats": study.evaluation.fold_repeats,
        "n": n,
        "targets": targets,
    }


def require_folds(study: Study, stimuli: int) -> None:
    """Raise unless so many stimuli make the folds that the study asks for.

    Raises
    ------
    ConfigError
        A fold would have fewer than two of them.
    """
    folds = study.evaluation.folds or 0
    if stimuli < 2 * folds:
        raise ConfigError(f"evaluation.folds: {folds} folds of {stimuli} stimuli; use at most {stimuli // 2}")


@dataclass(frozen=True)
class _Rows:
    """All trials of a subject with all stimuli's targets.

    `brain` all trials, `names` the stimuli, `truth` (stimulus, …).
    """

    subject: str
    target: str
    space: str
    brain: BrainRows
    names: list[str]
    truth: Array
    groups: list[str] | None

    @property
    def data(self) -> TrainingData:
        """The same as training data."""
        return TrainingData({self.subject: self.brain}, {self.target: Target.of(self.truth, self.names)})


def _one_repeat(study: Study, role: str, rows: _Rows, repeat: int) -> tuple[scores.Values, list[str]]:
    """Return the values of every row, and the route that each fold has chosen."""
    folds = study.evaluation.folds or 0
    require_folds(study, len(rows.names))
    fold_of = np.empty(len(rows.names), np.int64)
    fold_of[rng_for(study.seed, "folds", repeat).permutation(len(rows.names))] = np.arange(len(rows.names)) % folds
    routes = list(study.training.routes)
    made = {name: np.empty_like(rows.truth) for name in (*routes, CHOSEN, MEAN)}
    chosen = []
    for fold in range(folds):
        held = fold_of == fold
        context = Context(seed_for(study.seed, "fold", repeat, fold), f"fold {fold + 1}")
        predicted, best = _fit_fold(study, role, rows, held, context)
        made[MEAN][held] = rows.truth[~held].mean(axis=0)
        made[CHOSEN][held] = predicted[best]
        for name in routes:
            made[name][held] = predicted[name]
        chosen.append(best)
    mean = made[MEAN]
    listed = made if len(routes) > 1 else {name: made[name] for name in (CHOSEN, MEAN)}
    values = _values(study, rows, {**listed, ORACLE: rows.truth}, mean)
    values[SHUFFLED] = _shuffled(study, rows, made[CHOSEN], mean, fold_of, repeat)
    order = [CHOSEN, *(routes if len(routes) > 1 else ()), MEAN, SHUFFLED, ORACLE]
    return {row: values[row] for row in order}, chosen


def _values(study: Study, rows: _Rows, made: dict[str, Array], mean: Array) -> scores.Values:
    """Score rows; `mean` holds, for each stimulus, the mean of the training targets of its fold."""
    space = rows.space
    spaces = {name: {space: values, centred(space): centre(values, mean)} for name, values in made.items()}
    truth = {space: rows.truth, centred(space): centre(rows.truth, mean)}
    return scores.per_stimulus(spaces, truth, metrics=study.evaluation.metrics, groups=rows.groups)


def _shuffled(
    study: Study, rows: _Rows, predicted: Array, mean: Array, fold_of: Array, repeat: int
) -> dict[str, Array]:
    """Permute within folds only: elsewhere the model of a fold would meet responses it was trained on.

    A fold's share of stimuli that stay in place is larger than that of all, so this control errs on the high side.
    """
    order = np.arange(len(predicted))
    for fold in np.unique(fold_of):
        here = np.flatnonzero(fold_of == fold)
        order[here] = here[shuffle_stimuli(len(here), seed_for(study.seed, "shuffled folds", repeat, int(fold)))]
    return _values(study, rows, {SHUFFLED: predicted[order]}, mean)[SHUFFLED]


def _fit_fold(study: Study, role: str, rows: _Rows, held: Array, context: Context) -> tuple[dict[str, Array], str]:
    """Return every route's predictions for the held-out stimuli, and the route chosen within the others."""
    inside = [name for name, out in zip(rows.names, held, strict=True) if not out]
    outside = [name for name, out in zip(rows.names, held, strict=True) if out]
    data, test = rows.data.only(inside), rows.data.only(outside).brains[rows.subject]
    seeded = study.model_copy(update={"seed": context.seed})
    choice = choose_route(seeded, data, context)
    made = {}
    for name, route in study.training.routes.items():
        fitted = fit_route(seeded, route, data, context.within(name))
        regressor = fitted.regressors[role]
        shown, predicted = predict_stimuli(fitted.encoder, regressor, rows.subject, test.responses, test.stimuli)
        made[name] = predicted[[shown.index(stimulus) for stimulus in outside]]
    return made, choice.chosen


def _all_rows(study: Study, store: Store, subject: str, target: str) -> _Rows:
    rois = study.training.rois
    parts = [store.pairs([subject], target, split, rois=rois, repeats="single")[subject] for split in SPLITS]
    recorded = store.responses(subject)
    unlabelled = recorded.unlabelled(rois)
    truth: dict[str, Array] = {}
    for part in parts:
        truth |= dict(zip(part.stimuli, np.asarray(part.targets, dtype=np.float32), strict=True))
    tables = pd.concat([store.target(target).stimuli(split) for split in SPLITS]).set_index("stimulus")
    names = [name for name in tables.index if name in truth]  # the source's order, the same for every subject
    voxels = recorded.voxels if rois is None else recorded.voxels.iloc[recorded.voxels_in(rois)]
    brain = BrainRows(
        np.concatenate([np.asarray(part.responses) for part in parts]),
        [name for part in parts for name in part.stimuli],
        [str(roi) for roi in voxels["roi"]],
        None if unlabelled is None else np.asarray(unlabelled),
    )
    return _Rows(
        subject=subject,
        target=target,
        space=study.space(target),
        brain=replace(brain, align=_align(study, store, brain.stimuli)),
        names=names,
        truth=np.stack([truth[name] for name in names]),
        groups=list(tables.loc[names, "group"]) if "group" in tables else None,
    )


def _align(study: Study, store: Store, trials: list[str]) -> dict[str, Array]:
    """Return what each trial is aligned with, (trial, width), by target."""
    made = {}
    for name in study.roles.align:
        parts = [store.target(name).values(split) for split in SPLITS]
        together = Target.of(
            np.concatenate([values[:] for values, _ in parts]), [s for _, stimuli in parts for s in stimuli]
        )
        made[name] = together.vectors_of_trials(trials)
    return made
