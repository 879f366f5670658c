"""Fits routes from the brain to the targets, and chooses one on stimuli held out of the training ones."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from core.progress import report
from core.seeds import rng_for
from evaluation.centred import centre, centred
from evaluation.intervals import paired_interval
from evaluation.scores import per_stimulus
from models.encoders.rows import split_stimuli
from models.parts import Encoder, Regressor, fit_encoder, fit_regressors
from models.predict import predict_stimuli
from models.training.context import Context
from studies.study import RouteConfig, Study
from studies.training_data import TrainingData

Array = NDArray[Any]

FEWEST = 2
"""Held-out stimuli below which a difference between routes has no standard error."""


@dataclass(frozen=True)
class FittedRoute:
    """An encoder and one regressor per role, fitted together."""

    encoder: Encoder
    regressors: dict[str, Regressor]


@dataclass(frozen=True)
class Choice:
    """Which route was chosen, and on what grounds.

    Attributes
    ----------
    chosen : name of the route
    stimuli : held-out stimuli that the routes were compared on; 0 where there was nothing to choose
    values : by route, the criterion of every held-out stimulus, averaged over roles and subjects, (stimulus,)
    """

    chosen: str
    stimuli: int = 0
    values: dict[str, Array] = field(default_factory=dict)

    def summary(self, study: Study) -> dict[str, Any]:
        """Return what scores.json says of the choice."""
        rows = {}
        first = next(iter(self.values), "")
        for name, values in self.values.items():
            difference, low, high = paired_interval(values, self.values[first], seed=study.seed)
            against = {} if name == first else {"difference": {"value": difference, "ci95": [low, high]}}
            rows[name] = {"value": float(values.mean()), **against}
        settings = study.training.selection
        return {"chosen": self.chosen, "criterion": settings.criterion, "n": self.stimuli, "routes": rows}


def fit_route(study: Study, route: RouteConfig, data: TrainingData, context: Context) -> FittedRoute:
    """Fit one route on training data; `study.roles` says which targets are regressed."""
    encoder = fit_encoder(route.encoder, data.brains, context.within("encoder"))
    roles = data.roles(route.regressor, encoder, study.roles.regressed())
    return FittedRoute(encoder, fit_regressors(route.regressor, roles, context, joint=route.joint))


def choose_route(study: Study, data: TrainingData, context: Context) -> Choice:
    """Fit every route on part of the training stimuli, and compare them on the rest.

    A route is preferred to the one preferred so far where it is better by `margin` standard errors of the paired
    difference over the held-out stimuli.

    Raises
    ------
    ConfigError
        Too few stimuli are held out to compare anything on.
    """
    routes, settings = study.training.routes, study.training.selection
    if len(routes) == 1:
        return Choice(next(iter(routes)))
    names = data.stimuli
    is_held = split_stimuli(names, settings.validation, rng_for(study.seed, "route selection"))
    held = [name for name, out in zip(names, is_held, strict=True) if out]
    if len(held) < FEWEST:
        raise ConfigError(
            f"training.selection.validation: {settings.validation:g} of {len(names)} training stimuli is {len(held)}; "
            f"routes are compared on at least {FEWEST}: hold out more, or name one route alone"
        )
    inner, outer = data.only([name for name, out in zip(names, is_held, strict=True) if not out]), data.only(held)
    values = {}
    for done, (name, route) in enumerate(routes.items()):
        report("comparing routes on held-out training stimuli", done, len(routes), name)
        fitted = fit_route(study, route, inner, context.within(name).within("selection"))
        values[name] = _criterion(study, fitted, inner, outer, held)
    report("comparing routes on held-out training stimuli", len(routes), len(routes))
    return Choice(preferred(values, settings.margin), len(held), values)


def preferred(values: dict[str, Array], margin: float) -> str:
    """Return the route to prefer, going through them in order; see `choose_route`.

    Parameters
    ----------
    values : by route, (stimulus,) values of which higher ones are better
    margin : standard errors
    """
    best, *others = values
    for name in others:
        gain = values[name] - values[best]
        if gain.mean() > max(margin * gain.std(ddof=1) / np.sqrt(len(gain)), 1e-9):
            best = name
    return best


def _criterion(
    study: Study, fitted: FittedRoute, inner: TrainingData, outer: TrainingData, held: list[str]
) -> NDArray[np.float64]:
    """Return the criterion of every held-out stimulus; who saw none, or one in all, does not count."""
    position, sums, counts = {name: row for row, name in enumerate(held)}, np.zeros(len(held)), np.zeros(len(held))
    for regressor in fitted.regressors.values():
        space = centred(study.space(regressor.target))
        target, metric = outer.targets[regressor.target], f"{space}.{study.training.selection.criterion}"
        mean = target.mean(inner.stimuli)
        for subject, brain in outer.brains.items():
            if len(set(brain.stimuli)) < FEWEST:
                continue
            shown, predicted = predict_stimuli(fitted.encoder, regressor, subject, brain.responses, brain.stimuli)
            truth = target.of_trials(shown)
            rows = {"route": {space: centre(predicted, mean)}}
            found = per_stimulus(rows, {space: centre(truth, mean)}, metrics=[metric])["route"][metric]
            where = [position[name] for name in shown]
            sums[where] += found
            counts[where] += 1
    return np.asarray(sums / counts.clip(1))
