"""What a fitted route says of training stimuli that were held out of its fitting, and how good that is.

Routes are chosen by it, and so are the versions that go into production: never by the test set.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.statistics.intervals import bootstrap_interval
from evaluation.statistics.scores import per_stimulus
from evaluation.statistics.spaces import centre, centred
from models.decoders.build import Encoder, Regressor, predict_stimuli
from studies.decoding.training_data import TrainingData
from studies.study import Study

Array = NDArray[Any]
Values = dict[str, dict[str, Array]]
"""By role, by metric, the value of every stimulus, (stimulus,)."""

METRICS = ("correlation", "two_way", "r2")
"""All of targets minus their training mean."""
FEWEST = 2
"""Held-out stimuli below which nothing can be compared."""


@dataclass(frozen=True)
class Validation:
    """A route's scores on held-out training stimuli.

    Attributes
    ----------
    stimuli : the held-out stimuli
    values : of every stimulus, averaged over the subjects who saw it; 0 where none of them can be scored
    shown : by role, (n, …) the first subject's predictions for its first held-out stimuli, to be looked at
    shown_stimuli : which these are
    """

    stimuli: list[str]
    values: Values
    shown: dict[str, Array] = field(default_factory=dict)
    shown_stimuli: list[str] = field(default_factory=list)

    def criterion(self, metric: str) -> NDArray[np.float64]:
        """Return one metric of every stimulus, averaged over roles, (stimulus,)."""
        mean: NDArray[np.float64] = np.mean([metrics[metric] for metrics in self.values.values()], axis=0)
        return mean

    def record(self, route: str, subjects: list[str]) -> dict[str, Any]:
        """Return what is kept beside a training, JSON-able."""
        values = {
            role: {name: [float(value) for value in one] for name, one in metrics.items()}
            for role, metrics in self.values.items()
        }
        return {"schema": 1, "route": route, "subjects": subjects, "stimuli": self.stimuli, "values": values}


def summary(record: dict[str, Any], seed: int) -> dict[str, dict[str, Any]]:
    """Return the mean of every metric of a `Validation.record`, with its interval, by ``role.metric``.

    Returns
    -------
    dict
        ``{"z.correlation": {"value": …, "ci95": [low, high], "n": …}}``
    """
    made = {}
    for role, metrics in record["values"].items():
        for name, listed in metrics.items():
            values = np.asarray(listed, np.float64)
            interval = bootstrap_interval(values, seed=seed)
            made[f"{role}.{name}"] = {"value": float(values.mean()), "ci95": list(interval), "n": len(values)}
    return made


def validate(
    study: Study,
    encoder: Encoder,
    regressors: dict[str, Regressor],
    inner: TrainingData,
    outer: TrainingData,
    stimuli: list[str],
) -> Validation:
    """Score a route that was fitted on `inner` by the stimuli of `outer`.

    Parameters
    ----------
    regressors : by role
    stimuli : those of `outer`, in the order that the values are wanted in
    """
    values: Values = {}
    shown: dict[str, Array] = {}
    for role, regressor in regressors.items():
        mean = outer.targets[regressor.target].mean(inner.stimuli)
        values[role], first = _values(study, encoder, regressor, outer, stimuli, mean)
        shown[role], named = first
    return Validation(stimuli, values, shown, named)


def _values(
    study: Study, encoder: Encoder, regressor: Regressor, outer: TrainingData, stimuli: list[str], mean: Array
) -> tuple[dict[str, Array], tuple[Array, list[str]]]:
    """Return a role's values, and the first predictions of the first subject with their stimuli."""
    space, target = centred(study.space(regressor.target)), outer.targets[regressor.target]
    position = {name: row for row, name in enumerate(stimuli)}
    sums, counts = {name: np.zeros(len(stimuli)) for name in METRICS}, np.zeros(len(stimuli))
    first: tuple[Array, list[str]] | None = None
    for subject, brain in outer.brains.items():
        if len(set(brain.stimuli)) < FEWEST:
            continue
        names, predicted = predict_stimuli(encoder, regressor, subject, brain.responses, brain.stimuli)
        truth = {space: centre(target.of_trials(names), mean)}
        metrics = [f"{space}.{name}" for name in METRICS]
        found = per_stimulus({"route": {space: centre(predicted, mean)}}, truth, metrics=metrics)["route"]
        where = [position[name] for name in names]
        for name, one in sums.items():
            one[where] += found[f"{space}.{name}"]
        counts[where] += 1
        first = first or _first(names, predicted, study.training.sheet)
    nothing: tuple[Array, list[str]] = np.empty((0, *regressor.shape), np.float32), []
    return {name: one / counts.clip(1) for name, one in sums.items()}, first or nothing


def _first(names: list[str], predicted: Array, count: int) -> tuple[Array, list[str]]:
    """Return the predictions for the alphabetically first stimuli: nothing is picked."""
    order = sorted(range(len(names)), key=names.__getitem__)[:count]
    return predicted[order], [names[row] for row in order]
