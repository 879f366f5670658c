"""Scores of predicted targets: every route beside the controls, over all subjects."""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import seed_for
from evaluation.config import EvaluationConfig
from evaluation.statistics import scores
from evaluation.statistics.controls import prediction_ceiling, shuffle_stimuli
from evaluation.statistics.scores import MEAN, NOISE_CEILING, SHUFFLED
from evaluation.statistics.spaces import centre, centred
from feature_store import Store
from models.decoders.build import Encoder, Regressor
from studies.decoding.predictions import Predictions, common_stimuli, predict_test

Array = NDArray[Any]


def predict_role(
    store: Store, encoder: Encoder, regressor: Regressor, rois: list[str] | None, trained_on: Collection[str]
) -> dict[str, Predictions]:
    """Return the predictions of every subject's test stimuli; see `predict_test`."""
    return {
        subject: predict_test(store, encoder, regressor, subject, rois, trained_on, halves=True)
        for subject in regressor.subjects
    }


class RoleScores:
    """Scores every route's predictions of one target; the predictions themselves are not kept.

    Parameters
    ----------
    target, space : name of the target, and of the space that it is scored in
    evaluation : the metrics, and the permutations of the shuffled control
    seed : the study's
    """

    def __init__(self, target: str, space: str, evaluation: EvaluationConfig, seed: int) -> None:
        self._target, self._space, self._evaluation, self._seed = target, space, evaluation, seed
        self._values: scores.Values = {}
        self._controls: dict[str, scores.Values] = {}
        self._described: dict[str, Any] = {}
        self._groups: list[str] | None = None
        self._dropped: dict[str, dict[str, int]] = {}
        self.n_test = 0

    def add(self, route: str, regressor: Regressor, predictions: dict[str, Predictions]) -> None:
        """Score one route's predictions, per subject."""
        first = predictions[common_stimuli({subject: own.stimuli for subject, own in predictions.items()})]
        self._groups, self.n_test = first.groups, len(first.stimuli)
        self._dropped = {subject: own.dropped for subject, own in predictions.items()}
        subjects = list(predictions.values())
        self._values[route] = scores.by_subject([self._score(own, own.predicted) for own in subjects])["row"]
        if MEAN not in self._values:
            self._values[MEAN] = scores.by_subject([self._score(own, np.asarray(own.mean)) for own in subjects])["row"]
        self._controls[route] = {SHUFFLED: self._shuffled(subjects), **self._ceiling(subjects)}
        self._described[route] = regressor.state()[0]

    def report(self, chosen: str, baseline: str) -> dict[str, Any]:
        """Return the target's section of `scores.json`: all routes, with the controls of the chosen one among them.

        Parameters
        ----------
        chosen : the route that is registered
        baseline : the route that every other one is compared with, stimulus by stimulus
        """
        seed, groups = self._seed, self._groups
        routes = {name: values for name, values in self._values.items() if name != MEAN}
        rows = {**routes, MEAN: self._values[MEAN], **self._controls[chosen]}
        controls = {name: scores.summarise(values, seed=seed, groups=groups) for name, values in self._controls.items()}
        return {
            "target": self._target,
            "routes": list(routes),
            "chosen": chosen,
            "rows": scores.summarise(rows, seed=seed, groups=groups),
            "baseline": baseline,
            "differences": scores.differences(routes, baseline, seed=seed, groups=groups),
            "controls": controls,
            "dropped": self._dropped,
            "regressor": self._described[chosen],
        }

    def _score(self, own: Predictions, rows: Array) -> scores.Values:
        """Score one subject's rows, (stimulus, …), as they are and less the training mean."""
        predicted = {self._space: rows, centred(self._space): centre(rows, own.mean)}
        truth = {self._space: own.truth, centred(self._space): centre(own.truth, own.mean)}
        return scores.per_stimulus({"row": predicted}, truth, metrics=self._evaluation.metrics, groups=own.groups)

    def _shuffled(self, subjects: list[Predictions]) -> dict[str, Any]:
        """Score predictions in shuffled orders: the mean over several, as a single one of few stimuli is noisy."""
        seeds = [seed_for(self._seed, "shuffled brain", index) for index in range(self._evaluation.permutations)]
        orders = [shuffle_stimuli(self.n_test, seed) for seed in seeds]
        return scores.by_subject(
            [scores.average([self._score(own, own.predicted[order]) for order in orders]) for own in subjects]
        )["row"]

    def _ceiling(self, subjects: list[Predictions]) -> scores.Values:
        name = f"{centred(self._space)}.correlation"
        halves = [(own.halves, own.mean) for own in subjects if own.halves is not None]
        if len(halves) < len(subjects) or not {"correlation", name} & set(self._evaluation.metrics):
            return {}
        ceilings = [prediction_ceiling(centre(one, mean), centre(other, mean)) for (one, other), mean in halves]
        return {NOISE_CEILING: {name: np.asarray(ceilings[0] if len(ceilings) == 1 else np.stack(ceilings))}}
