"""Fits routes from the brain to the targets, and chooses one on stimuli held out of the training ones.

The same held-out stimuli decide later which version goes into production; the test set decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from core.progress import report
from core.seeds import rng_for
from evaluation.metrics import metric
from evaluation.statistics.intervals import mean_interval, paired_interval
from evaluation.statistics.scores import per_stimulus
from evaluation.statistics.spaces import centre, centred
from models.decoders.build import Encoder, Regressor, fit_encoder, fit_regressors, predict_stimuli
from models.decoders.rows import split_stimuli
from models.training.loop import Context
from studies.decoding.training_data import TrainingData
from studies.study import RouteConfig, TrainingConfig

Array = NDArray[Any]
CRITERIA = ("correlation", "two_way", "r2")
"""All of targets minus their training mean."""
SPACE = centred("target")
"""A name for that, whatever the target is."""
MIN_HELD_OUT = 2
"""Held-out stimuli that a comparison needs at least."""


@dataclass(frozen=True)
class Validation:
    """A route's scores on held-out training stimuli.

    Attributes
    ----------
    values : by role, by metric, the value of every stimulus, (stimulus,): the mean over the subjects who saw it, 0
        where none of them can be scored
    shown : by role, (n, …) the first subject's predictions for its first held-out stimuli, for a picture
    """

    stimuli: list[str]
    values: dict[str, dict[str, Array]]
    shown: dict[str, Array] = field(default_factory=dict)
    shown_stimuli: list[str] = field(default_factory=list)

    def criterion(self, metric: str) -> NDArray[np.float64]:
        """Return one metric of every stimulus, averaged over roles, (stimulus,)."""
        mean: NDArray[np.float64] = np.mean([metrics[metric] for metrics in self.values.values()], axis=0)
        return mean

    def record(self, route: str, subjects: list[str]) -> dict[str, Any]:
        """Return the content of `validation.json`."""
        values = {
            role: {name: [float(value) for value in listed] for name, listed in metrics.items()}
            for role, metrics in self.values.items()
        }
        return {"schema": 1, "route": route, "subjects": subjects, "stimuli": self.stimuli, "values": values}


@dataclass(frozen=True)
class FittedRoute:
    """An encoder and one regressor per role, fitted together."""

    encoder: Encoder
    regressors: dict[str, Regressor]


@dataclass(frozen=True)
class Choice:
    """The route that was chosen, and the scores that it was chosen by.

    Attributes
    ----------
    stimuli : number of held-out stimuli that the routes were compared on; 0 where there was nothing to choose
    values : by route, the criterion of every held-out stimulus, averaged over roles and subjects, (stimulus,)
    validation : the chosen route's scores on the held-out stimuli; None where nothing was held out
    """

    chosen: str
    stimuli: int = 0
    values: dict[str, Array] = field(default_factory=dict)
    validation: Validation | None = None

    def summary(self, criterion: str) -> dict[str, Any]:
        """Return the section `selection` of `scores.json`."""
        rows = {}
        first = next(iter(self.values), "")
        for name, values in self.values.items():
            difference, low, high = paired_interval(values, self.values[first])
            against = {} if name == first else {"difference": {"value": difference, "ci95": [low, high]}}
            rows[name] = {"value": float(values.mean()), **against}
        return {"chosen": self.chosen, "criterion": criterion, "n": self.stimuli, "routes": rows}


def fit_route(route: RouteConfig, roles: Mapping[str, str], data: TrainingData, context: Context) -> FittedRoute:
    """Fit one route on training data; `roles` names the target that is regressed for each role."""
    encoder = fit_encoder(route.encoder, data.brains, context.within("encoder"))
    features = data.features(route.regressor, encoder)
    rows = data.roles(route.regressor, features, roles)
    regressors = fit_regressors(route.regressor, rows, context, joint=route.joint, features=features)
    return FittedRoute(encoder, regressors)


def choose_route(
    training: TrainingConfig,
    roles: Mapping[str, str],
    data: TrainingData,
    context: Context,
    *,
    score_alone: bool = False,
) -> Choice:
    """Fit every route on part of the training stimuli, and compare them on the rest.

    A route is preferred to the one preferred so far where it is better by `margin` standard errors of the paired
    difference over the held-out stimuli. Which stimuli are held out depends on the context's seed; where stimuli are
    ordered in time they are blocks of time, and trials near to them are not trained on. Raises `ConfigError`
    where too few stimuli are held out to compare anything on.

    Parameters
    ----------
    roles : role to the name of its target
    score_alone : whether to score a single route too, where there are stimuli enough: promotion compares by these
        scores
    """
    routes, settings = training.routes, training.selection
    names = data.stimuli
    times = data.times_of(names)
    is_held = split_stimuli(names, settings.validation, rng_for(context.seed, "route selection"), times)
    held = [name for name, out in zip(names, is_held, strict=True) if out]
    if len(routes) == 1 and (len(held) < MIN_HELD_OUT or not score_alone):
        return Choice(next(iter(routes)))
    if len(held) < MIN_HELD_OUT:
        raise ConfigError(
            f"training.selection.validation: {settings.validation:g} of {len(names)} training stimuli is {len(held)}; "
            f"routes are compared on at least {MIN_HELD_OUT}: hold out more, or name one route alone"
        )
    inner, outer = data.apart_from(held), data.only(held)
    scored = {}
    for done, (name, route) in enumerate(routes.items()):
        report("scoring routes on held-out training stimuli", done, len(routes), name)
        fitted = fit_route(route, roles, inner, context.within(name).within("selection"))
        scored[name] = validate(fitted, inner, outer, held, shown=training.sheet)
    report("scoring routes on held-out training stimuli", len(routes), len(routes))
    values = {name: validation.criterion(settings.criterion) for name, validation in scored.items()}
    chosen = preferred(values, settings.margin)
    return Choice(chosen, len(held), values, scored[chosen])


def preferred(values: dict[str, Array], margin: float) -> str:
    """Return the route to prefer, going through them in order; see `choose_route`.

    Parameters
    ----------
    values : by route, (stimulus,) values of which higher ones are better
    """
    best, *others = values
    for name in others:
        gain = values[name] - values[best]
        if gain.mean() > max(margin * gain.std(ddof=1) / np.sqrt(len(gain)), 1e-9):
            best = name
    return best


def validate(
    fitted: FittedRoute, inner: TrainingData, outer: TrainingData, stimuli: list[str], *, shown: int = 0
) -> Validation:
    """Score a route that was fitted on `inner` by the stimuli of `outer`.

    Parameters
    ----------
    stimuli : those of `outer`, in the order of the values
    shown : predictions to keep for a picture
    """
    values: dict[str, dict[str, Array]] = {}
    predictions: dict[str, Array] = {}
    names: list[str] = []
    for role, regressor in fitted.regressors.items():
        mean = outer.targets[regressor.target].mean(inner.stimuli)
        values[role], predictions[role], names = _validate_role(fitted.encoder, regressor, outer, stimuli, mean, shown)
    return Validation(stimuli, values, predictions, names)


def _validate_role(
    encoder: Encoder, regressor: Regressor, outer: TrainingData, stimuli: list[str], mean: Array, shown: int
) -> tuple[dict[str, Array], Array, list[str]]:
    """Return a role's values, and some of the first subject's predictions, (n, …), with their stimuli."""
    target, metrics = outer.targets[regressor.target], [f"{SPACE}.{name}" for name in CRITERIA]
    row_of = {name: row for row, name in enumerate(stimuli)}
    sums, counts = {name: np.zeros(len(stimuli)) for name in CRITERIA}, np.zeros(len(stimuli))
    first: tuple[Array, list[str]] | None = None
    for subject, brain in outer.brains.items():
        if len(set(brain.stimuli)) < MIN_HELD_OUT:
            continue
        names, predicted = predict_stimuli(encoder, regressor, subject, brain.responses, brain.stimuli)
        truth = {SPACE: centre(target.of_trials(names), mean)}
        values = per_stimulus({"route": {SPACE: centre(predicted, mean)}}, truth, metrics=metrics)["route"]
        rows = [row_of[name] for name in names]
        for name, total in sums.items():
            total[rows] += values[f"{SPACE}.{name}"]
        counts[rows] += 1
        first = first or _alphabetically_first(names, predicted, shown)
    values = {name: total / counts.clip(1) for name, total in sums.items()}
    return values, *(first or (np.empty((0, *regressor.shape), np.float32), []))


def _alphabetically_first(names: list[str], predicted: Array, count: int) -> tuple[Array, list[str]]:
    """Return the predictions for some stimuli, which are not picked by how good they are."""
    order = sorted(range(len(names)), key=names.__getitem__)[:count]
    return predicted[order], [names[row] for row in order]


def validation_summary(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the mean of every metric of a `Validation.record`, with its interval, by ``role.metric``.

    Returns
    -------
    dict
        ``{"z.correlation": {"value": …, "ci95": [low, high], "n": …}}``
    """
    summary = {}
    for role, metrics in record["values"].items():
        for name, listed in metrics.items():
            values = np.asarray(listed, np.float64)
            interval = mean_interval(values, span=metric(name).span)
            summary[f"{role}.{name}"] = {"value": float(values.mean()), "ci95": list(interval), "n": len(values)}
    return summary
