"""Scores of predicted targets: every route beside the controls, over all subjects."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import seed_for
from evaluation.statistics import scores
from evaluation.statistics.controls import prediction_ceiling, shuffle_stimuli
from evaluation.statistics.scores import MEAN, NOISE_CEILING, SHUFFLED
from evaluation.statistics.spaces import centre, centred
from feature_store import Store
from models.decoders.build import Encoder, Regressor
from studies.decoding.predictions import Predictions, common_stimuli, predict_test
from studies.study import Study

Array = NDArray[Any]


def predict_role(study: Study, store: Store, encoder: Encoder, regressor: Regressor) -> dict[str, Predictions]:
    """Return the predictions of every subject's test stimuli."""
    rois = study.training.rois
    return {s: predict_test(study, store, encoder, regressor, s, rois, halves=True) for s in regressor.subjects}


class RoleScores:
    """Gathers what every route predicts of one target, and scores it; the predictions themselves are let go.

    Parameters
    ----------
    study : Study
    target : name of the target
    """

    def __init__(self, study: Study, target: str) -> None:
        self._study, self._target = study, target
        self._values: scores.Values = {}
        self._controls: dict[str, scores.Values] = {}
        self._described: dict[str, Any] = {}
        self._groups: list[str] | None = None
        self._dropped: dict[str, dict[str, int]] = {}
        self.n_test = 0

    def add(self, route: str, regressor: Regressor, made: dict[str, Predictions]) -> None:
        """Score one route's predictions, per subject."""
        first = made[common_stimuli({subject: one.stimuli for subject, one in made.items()})]
        self._groups, self.n_test = first.groups, len(first.stimuli)
        self._dropped = {subject: one.dropped for subject, one in made.items()}
        values = scores.by_subject([self._of(one, one.predicted) for one in made.values()])
        self._values[route] = values["row"]
        if MEAN not in self._values:
            mean = scores.by_subject([self._of(one, np.asarray(one.mean)) for one in made.values()])
            self._values[MEAN] = mean["row"]
        self._controls[route] = {SHUFFLED: self._shuffled(made), **self._ceiling(made)}
        self._described[route] = regressor.state()[0]

    def report(self, chosen: str, baseline: str) -> dict[str, Any]:
        """Return what scores.json says of the target: all routes, with the controls of the chosen one among them.

        Parameters
        ----------
        chosen : the route that is registered
        baseline : the route that the others' paired differences are taken to
        """
        seed, groups = self._study.seed, self._groups
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

    def _of(self, one: Predictions, rows: Array) -> scores.Values:
        space = self._study.space(self._target)
        predicted = {space: rows, centred(space): centre(rows, one.mean)}
        truth = {space: one.truth, centred(space): centre(one.truth, one.mean)}
        return scores.per_stimulus({"row": predicted}, truth, metrics=self._study.evaluation.metrics, groups=one.groups)

    def _shuffled(self, made: dict[str, Predictions]) -> dict[str, Any]:
        """One shuffled order of few stimuli says little, so the control is averaged over several."""
        count = self._study.evaluation.permutations
        seeds = [seed_for(self._study.seed, "shuffled brain", index) for index in range(count)]
        orders = [shuffle_stimuli(self.n_test, seed) for seed in seeds]
        shuffled = [scores.average([self._of(one, one.predicted[order]) for order in orders]) for one in made.values()]
        return scores.by_subject(shuffled)["row"]

    def _ceiling(self, made: dict[str, Predictions]) -> scores.Values:
        name = f"{centred(self._study.space(self._target))}.correlation"
        found = [
            prediction_ceiling(*(centre(half, one.mean) for half in one.halves))
            for one in made.values()
            if one.halves is not None
        ]
        asked = self._study.evaluation.metrics
        if len(found) < len(made) or not {"correlation", name} & set(asked):
            return {}
        by_subject = np.asarray(found[0] if len(found) == 1 else np.stack(found))
        return {NOISE_CEILING: {name: by_subject}}
