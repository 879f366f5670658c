"""From predictions to `metrics.json`: which metrics apply, one value a stimulus, means with intervals, the report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from core.errors import ConfigError
from evaluation.centred import centred
from evaluation.intervals import bootstrap_interval, paired_interval
from evaluation.metrics import Array, Groups, Metric, PerStimulus, metric

SCHEMA = 1
ROWS = ("reconstruction", "mean_predictor", "shuffled_brain", "oracle")
"""The rows every report carries, in the order in which they are shown."""
NOISE_CEILING = "noise_ceiling"
"""The row of `evaluation.ceiling`: no prediction, but the correlation that test noise allows."""
REFERENCES = (*ROWS[1:], NOISE_CEILING)
"""The rows that are no model's: what a model is held against."""

Spaces: TypeAlias = Mapping[str, Array]
"""Arrays (n, ...) by space: `pixels`, `latents`, `text`, any other target's name, and these less their training mean
(`latents_centred`). `frames` looks at `pixels`."""
Values: TypeAlias = dict[str, dict[str, PerStimulus]]
"""Values (n,) by row and by `space.metric`."""
Rows: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""The entries of `metrics.json` by row and by `space.metric`."""


def in_space(arrays: Spaces, space: str) -> Array | None:
    """Return the array that metrics of a space look at; `frames` looks at `pixels` unless it is given itself."""
    found = arrays.get(space)
    return arrays.get("pixels") if found is None and space == "frames" else found


def applicable(metrics: Sequence[str], arrays: Spaces, groups: Groups | None = None) -> list[str]:
    """Return the `space.metric` names that these arrays can be scored by, in the order asked for.

    Parameters
    ----------
    metrics : sequence of str
        `space.metric` names, or bare metric names, which stand for every space they apply to. What the arrays cannot
        have (no such space, no groups, frames too small, too few stimuli) is left out.
    arrays : arrays (n, ...) by space
    groups : sequence of length n, optional

    Raises
    ------
    ConfigError
        A metric is unknown, or can never be had in the space it is asked for (`pixels.ssim`: it is `frames.ssim`;
        `latents.r2`: it is `latents_centred.r2`).
    """
    names: dict[str, None] = {}
    for asked in metrics:
        chosen = metric(asked)
        space = asked.rpartition(".")[0]
        for candidate in [space] if space else _spaces_for(chosen, arrays):
            _check_space(chosen, candidate)
            found = in_space(arrays, candidate)
            if found is not None and chosen.applies_to(found.shape, groups):
                names[f"{candidate}.{chosen.name}"] = None
    return list(names)


def _spaces_for(chosen: Metric, arrays: Spaces) -> list[str]:
    if chosen.view == "frames":
        return ["frames"]
    return [space for space in arrays if _better_space(chosen, space) == space]


def _check_space(chosen: Metric, space: str) -> None:
    better = _better_space(chosen, space)
    if better != space:
        raise ConfigError(f"metric '{space}.{chosen.name}' does not exist; did you mean '{better}.{chosen.name}'?")


def _better_space(chosen: Metric, space: str) -> str:
    """Return the space itself where the metric can be had in it, else the one that was probably meant."""
    if chosen.view == "frames":
        return "frames"
    vectors = "pixels" if space == "frames" else space
    return centred(vectors) if chosen.view == "centred" else vectors


def per_stimulus(
    rows: Mapping[str, Spaces], truth: Spaces, *, metrics: Sequence[str], groups: Groups | None = None
) -> Values:
    """Score every stimulus of every row in the spaces that the row and the truth both have.

    Parameters
    ----------
    rows : predictions (n, ...) by row and space
    truth : arrays (n, ...) by space
    metrics, groups
        See `applicable`.

    Returns
    -------
    Values
        Arrays (n,); NaN where a prediction is not finite.

    Raises
    ------
    ValueError
        A prediction's shape is not its truth's.
    """
    names = applicable(metrics, truth, groups)
    return {row: _score_row(row, predictions, truth, names, groups) for row, predictions in rows.items()}


def _score_row(
    row: str, predictions: Spaces, truth: Spaces, names: Sequence[str], groups: Groups | None
) -> dict[str, PerStimulus]:
    scored = {}
    for name in names:
        space = name.rpartition(".")[0]
        predicted, wanted = in_space(predictions, space), in_space(truth, space)
        if predicted is None or wanted is None:
            continue
        try:
            scored[name] = metric(name).per_stimulus(predicted, wanted, groups)
        except ValueError as error:
            raise ValueError(f"row '{row}', space '{space}': {error}") from error
    return scored


def average(parts: Sequence[Values]) -> Values:
    """Average per-stimulus values over subjects who saw the same stimuli, before the bootstrap.

    Rows and metrics that not every subject has are left out. NaN stays NaN.

    Raises
    ------
    ValueError
        There is no subject, or the subjects differ in the number of stimuli.
    """
    if not parts:
        raise ValueError("no subject to average over; expected 1 or more")
    averaged: Values = {}
    for row in (row for row in parts[0] if all(row in part for part in parts)):
        names = [name for name in parts[0][row] if all(name in part[row] for part in parts)]
        averaged[row] = {name: np.mean([part[row][name] for part in parts], axis=0) for name in names}
    return averaged


def summarise(values: Values, *, seed: int, groups: Groups | None = None) -> Rows:
    """Turn per-stimulus values into the entries of `metrics.json`: mean, 95 % interval, chance, direction.

    A stimulus that the metric has no question for (alone in its class) is not counted, and `n` then says how many were.
    A value that is NaN otherwise makes the mean null, and `undefined` says how many there are; none is dropped.
    """
    return {
        row: {name: _entry(metric(name), one, seed, groups) for name, one in scored.items()}
        for row, scored in values.items()
    }


def _entry(chosen: Metric, values: PerStimulus, seed: int, groups: Groups | None) -> dict[str, Any]:
    counted = values[chosen.counted(len(values), groups)]
    interval = bootstrap_interval(counted, seed=seed)
    mean = float(counted.mean()) if len(counted) else math.nan
    entry: dict[str, Any] = {
        "value": _number(mean),
        "ci95": [_number(bound) for bound in interval],
        "chance": chosen.chance,
        "higher_is_better": chosen.higher_is_better,
    }
    return entry | _left_out(values, counted)


def _left_out(values: PerStimulus, counted: PerStimulus) -> dict[str, int]:
    """Return how many stimuli were counted and how many of these have no value, each where it is worth saying."""
    found = {"n": len(counted)} if len(counted) != len(values) else {}
    undefined = int((~np.isfinite(counted)).sum())
    return found | ({"undefined": undefined} if undefined else {})


def differences(values: Values, baseline: str, *, seed: int, groups: Groups | None = None) -> Rows:
    """Compare every model's row with the baseline's, stimulus by stimulus.

    Parameters
    ----------
    values : Values
    baseline : str
        The row that the others are held against; it is left out itself, as are the rows of no model (`REFERENCES`).
    seed : int
        The study's seed.
    groups : sequence of length n, optional
        The class of each stimulus, where a metric asked for it.

    Returns
    -------
    dict
        ``{row: {"latents_centred.correlation": {"value", "ci95", "higher_is_better"}}}``: the row's mean less the
        baseline's, with its paired interval; `n` and `undefined` as in `summarise`. An interval without 0 in it is a
        difference over test stimuli, not over other subjects or other fits.

    Raises
    ------
    ValueError
        There is no row of the baseline's name.
    """
    if baseline not in values:
        raise ValueError(f"no row '{baseline}' to compare with; found {', '.join(values) or 'none'}")
    against = values[baseline]
    return {
        row: {
            name: _difference(metric(name), one[name], against[name], seed, groups) for name in one if name in against
        }
        for row, one in values.items()
        if row not in (baseline, *REFERENCES)
    }


def _difference(
    chosen: Metric, values: PerStimulus, against: PerStimulus, seed: int, groups: Groups | None
) -> dict[str, Any]:
    asked = chosen.counted(len(values), groups)
    value, low, high = paired_interval(values[asked], against[asked], seed=seed)
    entry = {
        "value": _number(value),
        "ci95": [_number(low), _number(high)],
        "higher_is_better": chosen.higher_is_better,
    }
    return entry | _left_out(values, values[asked] - against[asked])


def score_rows(
    rows: Mapping[str, Spaces],
    truth: Spaces,
    *,
    metrics: Sequence[str],
    groups: Groups | None = None,
    seed: int,
) -> Rows:
    """Score every row against the truth, with intervals over stimuli: `summarise` of `per_stimulus`.

    Parameters
    ----------
    rows : predictions (n, ...) by row (`ROWS`, or any other name) and by space
    truth : arrays (n, ...) by space
    metrics : sequence of str
        `space.metric` or bare names; see `applicable`.
    groups : sequence of length n, optional
        The class of each stimulus.
    seed : int
        The study's seed.

    Returns
    -------
    dict
        ``{row: {"pixels.two_way": {"value", "ci95", "chance", "higher_is_better"}}}``, ready for JSON.
    """
    return summarise(per_stimulus(rows, truth, metrics=metrics, groups=groups), seed=seed, groups=groups)


def scores_of(values: Values, index: int, *, row: str = "reconstruction") -> dict[str, float]:
    """Return one stimulus's values by `space.metric`, as the gallery shows them."""
    return {name: float(one[index]) for name, one in values.get(row, {}).items()}


def report(study: str, run: str, n_test: int, rows: Rows, **more: Any) -> dict[str, Any]:
    """Return what `metrics.json` holds; `more` joins at the top level. NaN and infinities become null."""
    cleaned: dict[str, Any] = _clean(
        {**more, "schema": SCHEMA, "study": study, "run": run, "n_test": n_test, "rows": rows}
    )
    return cleaned


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _clean(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _clean(value.tolist())
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return _number(value) if isinstance(value, float) else value
