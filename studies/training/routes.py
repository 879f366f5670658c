"""Fits routes from the brain to the targets, and chooses one on stimuli held out of the training ones."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from core.progress import report
from core.seeds import rng_for
from evaluation.statistics.intervals import paired_interval
from models.decoders.build import Encoder, Regressor, fit_encoder, fit_regressors
from models.decoders.rows import split_stimuli
from models.training.stage import Context
from studies.decoding.training_data import TrainingData
from studies.study import RouteConfig, Study
from studies.training.validation import FEWEST, Validation, validate

Array = NDArray[Any]


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
    validation : the chosen route's scores on the held-out stimuli; None where nothing was held out
    """

    chosen: str
    stimuli: int = 0
    values: dict[str, Array] = field(default_factory=dict)
    validation: Validation | None = None

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
    features = data.features(route.regressor, encoder)
    roles = data.roles(route.regressor, features, study.roles.regressed())
    regressors = fit_regressors(route.regressor, roles, context, joint=route.joint, features=features)
    return FittedRoute(encoder, regressors)


def choose_route(study: Study, data: TrainingData, context: Context, *, score_alone: bool = False) -> Choice:
    """Fit every route on part of the training stimuli, and compare them on the rest.

    A route is preferred to the one preferred so far where it is better by `margin` standard errors of the paired
    difference over the held-out stimuli.

    Parameters
    ----------
    score_alone : bool
        Whether to score the only route of a study too, where there are stimuli enough: what goes into production is
        compared by it.

    Raises
    ------
    ConfigError
        Too few stimuli are held out to compare anything on.
    """
    routes, settings = study.training.routes, study.training.selection
    names = data.stimuli
    is_held = split_stimuli(names, settings.validation, rng_for(study.seed, "route selection"))
    held = [name for name, out in zip(names, is_held, strict=True) if out]
    if len(routes) == 1 and (len(held) < FEWEST or not score_alone):
        return Choice(next(iter(routes)))
    if len(held) < FEWEST:
        raise ConfigError(
            f"training.selection.validation: {settings.validation:g} of {len(names)} training stimuli is {len(held)}; "
            f"routes are compared on at least {FEWEST}: hold out more, or name one route alone"
        )
    inner, outer = data.only([name for name, out in zip(names, is_held, strict=True) if not out]), data.only(held)
    found = {}
    for done, (name, route) in enumerate(routes.items()):
        report("scoring routes on held-out training stimuli", done, len(routes), name)
        fitted = fit_route(study, route, inner, context.within(name).within("selection"))
        found[name] = validate(study, fitted.encoder, fitted.regressors, inner, outer, held)
    report("scoring routes on held-out training stimuli", len(routes), len(routes))
    values = {name: one.criterion(settings.criterion) for name, one in found.items()}
    chosen = preferred(values, settings.margin)
    return Choice(chosen, len(held), values, found[chosen])


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
