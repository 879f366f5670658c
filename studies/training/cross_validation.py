"""K-fold cross-validation over all stimuli, training and test together; for small datasets such as digits69.

Every fold fits all routes and chooses one on stimuli held out of its own training part. All repetitions of a stimulus
lie in one fold; stimuli that are ordered in time are dealt by blocks of it, and a fold's neighbours are not trained on.
No model of a fold is registered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import ConfigError
from core.progress import track
from core.seeds import rng_for, seed_for
from evaluation.config import EvaluationConfig
from evaluation.statistics import scores
from evaluation.statistics.order import TimeOrder
from evaluation.statistics.scores import MEAN, ORACLE, SHUFFLED
from evaluation.statistics.spaces import centre, centred
from feature_store import Store
from feature_store.sources.base import SPLITS
from models.decoders.build import predict_stimuli
from models.decoders.rows import BrainRows, deal_folds
from models.training.loop import Context
from studies.decoding.order import fold_times, order_of, part_of
from studies.decoding.predictions import common_order, common_stimuli, longest_block, shuffled_orders
from studies.decoding.training_data import Target, TrainingData, with_reach
from studies.study import TrainingConfig
from studies.training.fitted import fit_route
from studies.training.routes import choose_route

Array = NDArray[Any]

CHOSEN = "reconstruction"
"""The row of predictions by the route that each fold has chosen."""


def require_folds(folds: int, stimuli: int) -> None:
    """Raise `ConfigError` unless every fold gets two stimuli or more."""
    if stimuli < 2 * folds:
        raise ConfigError(f"evaluation.folds: {folds} folds of {stimuli} stimuli; use at most {stimuli // 2}")


@dataclass(frozen=True)
class CrossValidation:
    """Cross-validates routes over all stimuli.

    Attributes
    ----------
    training : the routes, how one is chosen, and the ROIs
    evaluation : the metrics, and how often all folds are drawn anew
    align : the targets that encoders are aligned with
    dense : whether trials are dense in time; see `studies.decoding.order.order_of`
    """

    folds: int
    training: TrainingConfig
    evaluation: EvaluationConfig
    align: Sequence[str]
    seed: int
    dense: bool = False

    def run(
        self, store: Store, subjects: Sequence[str], roles: Mapping[str, str], spaces: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return ``{"folds": K, "repeats": R, "n": stimuli, "targets": {role: {"rows": …, "intervals"}}}``.

        Every stimulus's value is averaged over the repeats (other folds each time); intervals are over subjects and
        stimuli, crossed. With several routes, each has a row, and `chosen` counts the folds that chose it.

        Parameters
        ----------
        roles : role to the name of its target
        spaces : target to the name of the space that it is scored in
        """
        repeats, targets, n = self.evaluation.fold_repeats, {}, 0
        for role, target in roles.items():
            which = (target, spaces[target], self.training.rois, self.align, self.dense)
            trials = {subject: _all_trials(store, subject, *which) for subject in subjects}
            first = trials[common_stimuli({subject: own.names for subject, own in trials.items()})]
            n = len(first.names)
            runs = [(own, repeat) for own in trials.values() for repeat in range(repeats)]
            scored = [self._repeat(role, *run) for run in track(runs, f"cross-validating {target}")]
            parts = [own for own, _ in scored]
            values = scores.by_subject(
                [scores.average(parts[place : place + repeats]) for place in range(0, len(parts), repeats)]
            )
            chosen = [route for _, routes in scored for route in routes]
            order = common_order(own.order for own in trials.values())
            rows = scores.summarise(values, groups=first.groups, order=order)
            targets[role] = {
                "target": target,
                "rows": rows,
                **scores.how_computed([rows], subjects=len(trials), order=order),
                **self._routes(values, chosen, first.groups, order),
            }
        return {"folds": self.folds, "repeats": repeats, "n": n, "targets": targets}

    def _routes(
        self, values: scores.Values, chosen: list[str], groups: list[str] | None, order: TimeOrder | None
    ) -> dict[str, Any]:
        """Return how often each route was chosen, and how it differs from the first; nothing of a single route."""
        routes = list(self.training.routes)
        if len(routes) == 1:
            return {}
        return {
            "chosen": {name: chosen.count(name) for name in routes},
            "baseline": routes[0],
            "differences": scores.differences(values, routes[0], groups=groups, order=order),
        }

    def _repeat(self, role: str, trials: "_Trials", repeat: int) -> tuple[scores.Values, list[str]]:
        """Return the values of every row, and the route that each fold has chosen."""
        n, routes = len(trials.names), list(self.training.routes)
        require_folds(self.folds, n)
        fold_of = deal_folds(n, self.folds, rng_for(self.seed, "folds", repeat), trials.data.times_of(trials.names))
        rows = {name: np.empty_like(trials.truth) for name in (*routes, CHOSEN, MEAN)}
        chosen = []
        for fold in range(self.folds):
            held = fold_of == fold
            context = Context(seed_for(self.seed, "fold", repeat, fold), f"fold {fold + 1}")
            predicted, best, mean = self._fit_fold(role, trials, held, context)
            rows[MEAN][held] = mean
            rows[CHOSEN][held] = predicted[best]
            for name in routes:
                rows[name][held] = predicted[name]
            chosen.append(best)
        listed = rows if len(routes) > 1 else {name: rows[name] for name in (CHOSEN, MEAN)}
        values = self._score(trials, {**listed, ORACLE: trials.truth}, rows[MEAN])
        length = 1 if trials.order is None else longest_block({CHOSEN: values[CHOSEN]}, trials.order)
        shuffled = rows[CHOSEN][self._shuffled_within(fold_of, repeat, trials.order, length)]
        values |= self._score(trials, {SHUFFLED: shuffled}, rows[MEAN])
        order = [CHOSEN, *(routes if len(routes) > 1 else ()), MEAN, SHUFFLED, ORACLE]
        return {row: values[row] for row in order}, chosen

    def _score(self, trials: "_Trials", rows: dict[str, Array], mean: Array) -> scores.Values:
        """Score rows; `mean` holds, for each stimulus, the mean of the training targets of its fold."""
        space = trials.space
        spaces = {name: {space: values, centred(space): centre(values, mean)} for name, values in rows.items()}
        truth = {space: trials.truth, centred(space): centre(trials.truth, mean)}
        return scores.per_stimulus(spaces, truth, metrics=self.evaluation.metrics, groups=trials.groups)

    def _shuffled_within(self, fold_of: Array, repeat: int, order: TimeOrder | None, length: int) -> Array:
        """Return an order shuffled within folds: elsewhere a fold's model would meet responses it was trained on.

        Where stimuli are ordered in time, each fold's are shifted in a circle instead, which keeps autocorrelation, by
        `length` stimuli at least.
        """
        # More stimuli stay in place than in a shuffle of all, so this control errs on the high side.
        places = np.arange(len(fold_of))
        for fold in np.unique(fold_of):
            here = np.flatnonzero(fold_of == fold)
            seed = seed_for(self.seed, "shuffled folds", repeat, int(fold))
            within = None if order is None else part_of(order, here)
            places[here] = here[shuffled_orders(len(here), 1, seed, within, length)[0]]
        return places

    def _fit_fold(
        self, role: str, trials: "_Trials", held: Array, context: Context
    ) -> tuple[dict[str, Array], str, Array]:
        """Return every route's predictions for the held-out stimuli, the route chosen within the others, their mean."""
        outside = [name for name, out in zip(trials.names, held, strict=True) if out]
        roles = {role: trials.target}
        data, test = trials.data.apart_from(outside), trials.data.only(outside).brains[trials.subject]
        choice = choose_route(self.training, roles, data, context)
        predictions = {}
        for name, route in self.training.routes.items():
            fitted = fit_route(route, roles, data, context.within(name))
            shown, predicted = predict_stimuli(
                fitted.encoder, fitted.regressors[role], trials.subject, test.responses, test.stimuli
            )
            predictions[name] = predicted[[shown.index(stimulus) for stimulus in outside]]
        return predictions, choice.chosen, data.targets[trials.target].mean(data.stimuli)


@dataclass(frozen=True)
class _Trials:
    """All trials of a subject, of training and test together, with all stimuli's targets.

    Attributes
    ----------
    truth : (stimulus, …)
    order : of the stimuli in time, or None where they have none
    """

    subject: str
    target: str
    space: str
    brain: BrainRows
    names: list[str]
    truth: Array
    groups: list[str] | None
    order: TimeOrder | None = None

    @property
    def data(self) -> TrainingData:
        """The same as training data."""
        return TrainingData({self.subject: self.brain}, {self.target: Target.of(self.truth, self.names)})


def _all_trials(
    store: Store, subject: str, target: str, space: str, rois: list[str] | None, align: Sequence[str], dense: bool
) -> _Trials:
    parts = [store.pairs([subject], target, split, rois=rois, repeats="single")[subject] for split in SPLITS]
    recorded = store.responses(subject)
    unlabelled = recorded.unlabelled(rois)
    truth: dict[str, Array] = {}
    for part in parts:
        truth |= dict(zip(part.stimuli, np.asarray(part.targets, dtype=np.float32), strict=True))
    tables = pd.concat([store.target(target).stimuli(split) for split in SPLITS]).set_index("stimulus")
    voxels = recorded.voxels if rois is None else recorded.voxels.iloc[recorded.voxels_in(rois)]
    shown = pd.concat([recorded.trials(split) for split in SPLITS], ignore_index=True)
    responses = np.concatenate([np.asarray(part.responses) for part in parts])
    names = [name for name in tables.index if name in truth]  # the source's order, the same for every subject
    values = np.stack([truth[name] for name in names])
    times = fold_times(shown[shown["stimulus"].isin(truth)], tables.reset_index())
    stimuli = [name for part in parts for name in part.stimuli]
    brain = BrainRows(
        responses,
        stimuli,
        [str(roi) for roi in voxels["roi"]],
        None if unlabelled is None else np.asarray(unlabelled),
        times=with_reach(times, responses, stimuli, [Target.of(values, names)]),
    )
    return _Trials(
        subject=subject,
        target=target,
        space=space,
        brain=replace(brain, align=_align(store, align, brain.stimuli)),
        names=names,
        truth=values,
        groups=list(tables.loc[names, "group"]) if "group" in tables else None,
        order=order_of(store, subject, target, names, splits=SPLITS, dense=dense),
    )


def _align(store: Store, targets: Sequence[str], trials: list[str]) -> dict[str, Array]:
    """Return what each trial is aligned with, (trial, width), by target."""
    aligned = {}
    for name in targets:
        parts = [store.target(name).values(split) for split in SPLITS]
        together = Target.of(
            np.concatenate([values[:] for values, _ in parts]), [s for _, stimuli in parts for s in stimuli]
        )
        aligned[name] = together.vectors_of_trials(trials)
    return aligned
