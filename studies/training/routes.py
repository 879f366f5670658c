"""Fits routes from the brain to the targets, and chooses one on stimuli held out of the training ones.

The same held-out stimuli decide later which version goes into production; the test set decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from core.files import read_json, write_json
from core.progress import report
from core.seeds import rng_for
from core.times import Times
from evaluation.metrics import metric
from evaluation.statistics.intervals import ANY, Blocks, Span, holm, mean_interval, paired_interval, paired_p
from evaluation.statistics.order import TimeOrder, block_length
from evaluation.statistics.scores import per_stimulus
from evaluation.statistics.selection import CrossFit, combined_p, cross_fit, widened
from evaluation.statistics.spaces import centre, centred
from models.decoders.build import Encoder, Regressor, predict_stimuli
from models.decoders.rows import split_stimuli
from models.training.loop import Context
from studies.decoding.training_data import TrainingData
from studies.study import RouteConfig, TrainingConfig
from studies.training.fitted import FittedRoute, fit_route
from studies.training.kept_fits import NO_KEPT_FITS, KeptFits

Array = NDArray[Any]
CRITERIA = ("correlation", "two_way", "r2")
"""All of targets minus their training mean."""
SPACE = centred("target")
"""A name for that, whatever the target is."""
MIN_HELD_OUT = 2
"""Held-out stimuli that a comparison needs at least."""
CHOSEN_APART = "what is chosen on one half of the held-out stimuli is scored on the other, and the other way round"
CHOSEN_ON_THE_SAME = "chosen and scored on the same held-out stimuli, too few to halve: expect less on other stimuli"
NOT_CHOSEN = "one route, so nothing was chosen"
BY_EARLIER = "written by an earlier version: too high where its route was chosen by these values among several"
"""How a reported score comes about."""


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
        values = _as_lists(self.values)
        return {"schema": 1, "route": route, "subjects": subjects, "stimuli": self.stimuli, "values": values}

    def write(self, folder: Path) -> None:
        """Write all of it into an empty folder."""
        values = {f"{role}/{name}": own for role, metrics in self.values.items() for name, own in metrics.items()}
        np.savez_compressed(folder / "values.npz", allow_pickle=False, **values)
        np.savez_compressed(folder / "shown.npz", allow_pickle=False, **self.shown)
        write_json(folder / "stimuli.json", [self.stimuli, self.shown_stimuli])

    @classmethod
    def read(cls, folder: Path) -> "Validation":
        """Return what `write` has written."""
        stimuli, shown_stimuli = read_json(folder / "stimuli.json")
        values: dict[str, dict[str, Array]] = {}
        with np.load(folder / "values.npz", allow_pickle=False) as kept:
            for key in kept.files:
                role, _, name = key.partition("/")
                values.setdefault(role, {})[name] = kept[key]
        with np.load(folder / "shown.npz", allow_pickle=False) as kept:
            return cls(stimuli, values, dict(kept), shown_stimuli)


def _as_lists(values: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, list[float]]]:
    return {
        role: {name: [float(value) for value in listed] for name, listed in metrics.items()}
        for role, metrics in values.items()
    }


@dataclass(frozen=True)
class Choice:
    """The route that was chosen, and the scores that it was chosen by.

    Attributes
    ----------
    stimuli : number of held-out stimuli that the routes were compared on; 0 where there was nothing to choose
    values : by route, the criterion of every held-out stimulus, averaged over roles and subjects, (stimulus,)
    validation : the chosen route's scores on the held-out stimuli; None where nothing was held out
    apart : what was chosen on either half of the held-out stimuli, to be scored on the other; None where there was
        nothing to choose, or too few stimuli to halve
    reported : by role and metric, (stimulus,) the scores of what `apart` chose; None without `apart`
    blocks : (stimulus,) labels of neighbours in time; None where held-out stimuli are exchangeable
    """

    chosen: str
    stimuli: int = 0
    values: dict[str, Array] = field(default_factory=dict)
    validation: Validation | None = None
    apart: CrossFit | None = None
    reported: dict[str, dict[str, Array]] | None = None
    blocks: Blocks | None = None

    def summary(self, criterion: str, seed: int) -> dict[str, Any]:
        """Return the section `selection` of `scores.json`.

        Returns
        -------
        dict
            ``{"chosen", "criterion", "n", "routes": {ROUTE: {"value", "difference": {"value", "ci95", "p",
            "p_adjusted"}}}, "reported": {"value", "ci95", "n", "how", "difference"?, "baseline"?, "routes"?}}``. The
            values of the routes are those that the choice was made by, so the chosen one's is too high; `reported` has
            none of the winner's curse where `how` is `CHOSEN_APART`. Differences are to the first route; `p` is
            two-sided, `p_adjusted` Holm's over the routes. `reported` is None where nothing was held out.
        """
        first = next(iter(self.values), "")
        compared = {
            name: self._difference(values, self.values[first], seed)
            for name, values in self.values.items()
            if name != first
        }
        adjusted = holm({name: np.nan if entry["p"] is None else entry["p"] for name, entry in compared.items()})
        rows = {
            name: {"value": float(values.mean())}
            | ({"difference": {**compared[name], "p_adjusted": _finite(adjusted[name])}} if name in compared else {})
            for name, values in self.values.items()
        }
        reported = self._reported(first, criterion, seed) if self.values else None
        return {
            "chosen": self.chosen, "criterion": criterion, "n": self.stimuli, "routes": rows, "reported": reported
        }  # fmt: skip

    def _difference(self, values: Array, baseline: Array, seed: int) -> dict[str, Any]:
        difference, *interval = paired_interval(values, baseline, blocks=self.blocks)
        p = paired_p(values, baseline, seed=seed, blocks=self.blocks)
        return {"value": difference, "ci95": [_finite(bound) for bound in interval], "p": _finite(p)}

    def _reported(self, first: str, criterion: str, seed: int) -> dict[str, Any]:
        """Return the criterion of what is chosen, and its gain over the first route, without the winner's curse."""
        span = metric(criterion).span
        if self.apart is None:
            how = NOT_CHOSEN if len(self.values) == 1 else CHOSEN_ON_THE_SAME
            return {**summarised(self.values[self.chosen], span=span, blocks=self.blocks), "how": how}
        values, baseline = self.apart.of(self.values), self.values[first]
        gain, *interval = self.gain_over(baseline)
        return {
            **summarised(values, span=span, blocks=self.blocks, cross_fitted=True),
            "how": CHOSEN_APART,
            "difference": {
                "value": gain,
                "ci95": [_finite(bound) for bound in interval],
                "p": _finite(combined_p([self._p_of_half(side, values, baseline, seed) for side in (0, 1)])),
            },
            "baseline": first,
            "routes": list(self.apart.chosen),
        }

    def _p_of_half(self, side: int, values: Array, baseline: Array, seed: int) -> float:
        assert self.apart is not None
        here = self.apart.half == side
        blocks = None if self.blocks is None else self.blocks[here]
        return paired_p(values[here], baseline[here], seed=seed, blocks=blocks)

    def gain_over(self, baseline: Array) -> tuple[float, float, float]:
        """Return by how much what is chosen exceeds a baseline, (stimulus,), with its interval.

        Free of the winner's curse where there is `apart`.
        """
        if self.apart is None:
            return paired_interval(self.values[self.chosen], baseline, blocks=self.blocks)
        gain, low, high = paired_interval(self.apart.of(self.values), baseline, blocks=self.blocks)
        return gain, *widened(gain, low, high)

    def record(self, subjects: list[str]) -> dict[str, Any] | None:
        """Return the content of `validation.json`, None where nothing was held out.

        `values` are those of the chosen route. Where it was chosen by them, `reported` holds values that are free of
        the choice, ``{"values", "half": (stimulus,) 0 or 1, "routes": by half, what scores it}``; see
        `reported_values`. `blocks` are there where stimuli are ordered in time.
        """
        if self.validation is None:
            return None
        record = self.validation.record(self.chosen, subjects)
        record |= {} if self.blocks is None else {"blocks": self.blocks.tolist()}
        if self.apart is None or self.reported is None:
            return record | {"routes": len(self.values)}
        reported = {
            "values": _as_lists(self.reported), "half": self.apart.half.tolist(), "routes": list(self.apart.chosen)
        }  # fmt: skip
        return record | {"routes": len(self.values), "reported": reported}


def comparable(routes: Mapping[str, RouteConfig]) -> dict[str, RouteConfig]:
    """Return the routes that one is chosen from: those of the kind, single subjects or a group, of the first one.

    What is decoded from several people's responses answers another question than what is decoded from one person's.
    """
    pooled = next(iter(routes.values())).pooled
    return {name: route for name, route in routes.items() if route.pooled == pooled}


def choose_route(
    training: TrainingConfig,
    roles: Mapping[str, str],
    data: TrainingData,
    context: Context,
    *,
    score_alone: bool = False,
    kept: KeptFits = NO_KEPT_FITS,
) -> Choice:
    """Fit every route on part of the training stimuli, and compare them on the rest.

    A route is preferred to the one preferred so far where it is better by `margin` standard errors of the paired
    difference over the held-out stimuli; `comparable` says which are compared. Which stimuli are held out
    depends on the context's seed; where stimuli are ordered in time they are blocks of time, and trials near to these
    are not trained on. Raises `ConfigError` where too few stimuli are held out to compare anything on.

    Parameters
    ----------
    roles : role to the name of its target
    score_alone : whether to score a single route too, where there are stimuli enough: promotion compares by these
        scores
    kept : the scores of routes that an earlier training fitted of the same
    """
    routes, settings = comparable(training.routes), training.selection
    pooled = next(iter(routes.values())).pooled
    data = data.of(pooled=pooled)
    names = data.stimuli
    times = data.times_of(names)
    is_held = split_stimuli(names, settings.validation, rng_for(context.seed, "route selection"), times)
    held = [name for name, out in zip(names, is_held, strict=True) if out]
    if len(routes) == 1 and (len(held) < MIN_HELD_OUT or not score_alone):
        return Choice(next(iter(routes)))
    require_held_out(training, len(names), len(held))
    inner, outer = data.apart_from(held), data.only(held)
    scored = {}
    for done, (name, route) in enumerate(routes.items()):
        report("scoring routes on held-out training stimuli", done, len(routes), name)
        made_from = {"validation": settings.validation, "pooled": pooled, "shown": training.sheet}
        fit_and_score = partial(_fit_and_score, route, roles, inner, outer, held, training.sheet)
        within = context.within(name).within("selection")
        scored[name] = kept.once(f"{name} on held-out stimuli", Validation, route, made_from, within, fit_and_score)
    report("scoring routes on held-out training stimuli", len(routes), len(routes))
    values = {name: validation.criterion(settings.criterion) for name, validation in scored.items()}
    blocks = blocks_in_time(values, outer.times_of(held))
    return choice_among(values, settings.margin, seed=context.seed, scored=scored, blocks=blocks)


def _fit_and_score(
    route: RouteConfig,
    roles: Mapping[str, str],
    inner: TrainingData,
    outer: TrainingData,
    held: list[str],
    shown: int,
    context: Context,
) -> Validation:
    return validate(fit_route(route, roles, inner, context), inner, outer, held, shown=shown)


def require_held_out(training: TrainingConfig, stimuli: int, held: int | None = None) -> None:
    """Raise `ConfigError` where routes are to be compared on too few stimuli.

    Parameters
    ----------
    stimuli : training stimuli
    held : how many of them are held out; by default as many as where they have no times
    """
    share = training.selection.validation
    held = max(1, round(share * stimuli)) if held is None else held
    if len(comparable(training.routes)) > 1 and held < MIN_HELD_OUT:
        raise ConfigError(
            f"training.selection.validation: {share:g} of {stimuli} training stimuli is {held}; "
            f"routes are compared on at least {MIN_HELD_OUT}: hold out more, or name one route alone"
        )


def blocks_in_time(values: Mapping[str, Array], times: Times | None) -> Blocks | None:
    """Return the block of neighbours in time that each held-out stimulus lies in, (stimulus,).

    As long as the autocorrelation of any route's values asks for; None where times are not known or it asks for none.
    """
    if times is None or not times.known:
        return None
    order = TimeOrder(times.segment, times.start_s)
    length = max(block_length(own, order) for own in values.values())
    return order.blocks(length) if length > 1 else None


def choice_among(
    values: dict[str, Array],
    margin: float,
    *,
    seed: int,
    scored: Mapping[str, Validation] = {},
    blocks: NDArray[np.int64] | None = None,
) -> Choice:
    """Choose a route by its values on all held-out stimuli, and on either half of them what is reported.

    Parameters
    ----------
    values : by route, the criterion of every held-out stimulus, (stimulus,), higher is better
    margin : see `choose_route`
    seed : of the halves
    scored : by route, all its scores
    blocks : (stimulus,) labels of stimuli that are not independent, which stay in one half
    """
    prefer = partial(preferred, margin=margin)
    chosen = prefer(values)
    apart = cross_fit(values, prefer, seed=seed, blocks=blocks) if len(values) > 1 else None
    reported = None
    if apart is not None and scored:
        reported = {
            role: {name: apart.of({route: own.values[role][name] for route, own in scored.items()}) for name in metrics}
            for role, metrics in scored[chosen].values.items()
        }
    return Choice(chosen, len(next(iter(values.values()))), values, scored.get(chosen), apart, reported, blocks)


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


def reported_values(record: Mapping[str, Any]) -> tuple[dict[str, dict[str, list[float]]], str]:
    """Return the values of a `Choice.record` to report, by role and metric, and how they come about.

    They are cross-fitted (`evaluation.statistics.selection`) where the second is `CHOSEN_APART`. A record that an
    earlier version wrote has nothing but the values that its route was chosen by.
    """
    if "reported" in record:
        return record["reported"]["values"], CHOSEN_APART
    if "routes" not in record:
        return record["values"], BY_EARLIER
    return record["values"], NOT_CHOSEN if record["routes"] == 1 else CHOSEN_ON_THE_SAME


def validation_summary(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the mean of every metric of a `Choice.record`, with its interval, by ``role.metric``.

    Returns
    -------
    dict
        ``{"z.correlation": {"value": …, "ci95": [low, high], "n": …, "how": …}}``; see `reported_values`
    """
    values, how = reported_values(record)
    blocks = np.array(record["blocks"], np.int64) if "blocks" in record else None
    return {
        f"{role}.{name}": {
            **summarised(
                np.asarray(listed, np.float64),
                span=metric(name).span,
                blocks=blocks,
                cross_fitted=how == CHOSEN_APART,
            ),
            "how": how,
        }
        for role, metrics in values.items()
        for name, listed in metrics.items()
    }


def summarised(
    values: Array, *, span: Span = ANY, blocks: Blocks | None = None, cross_fitted: bool = False
) -> dict[str, Any]:
    """Return ``{"value", "ci95", "n"}`` of the values of held-out stimuli, (stimulus,)."""
    value, interval = float(values.mean()), mean_interval(values, span=span, blocks=blocks)
    bounds = widened(value, *interval) if cross_fitted else interval
    inside = [float(np.clip(bound, *span)) for bound in bounds]  # NaN stays NaN
    return {"value": value, "ci95": [_finite(bound) for bound in inside], "n": len(values)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
