"""From predictions to `metrics.json`: which metrics apply, one value a stimulus, means with intervals, the report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from core.errors import ConfigError
from evaluation.intervals import bootstrap_interval
from evaluation.metrics import Array, Groups, Metric, PerStimulus, metric

SCHEMA = 1
ROWS = ("reconstruction", "mean_predictor", "shuffled_brain", "oracle")
"""The rows every report carries, in the order in which they are shown."""

Spaces: TypeAlias = Mapping[str, Array]
"""Arrays (n, ...) by space: `pixels`, `latents`, `text`, any other target's name. `frames` looks at `pixels`."""
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
        have (no such space, no groups, frames too small) is left out.
    arrays : arrays (n, ...) by space
    groups : sequence of length n, optional

    Raises
    ------
    ConfigError
        A metric is unknown, or can never be had in the space it is asked for (`pixels.ssim`: it is `frames.ssim`).
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
    return ["frames"] if chosen.view == "frames" else [space for space in arrays if space != "frames"]


def _check_space(chosen: Metric, space: str) -> None:
    if (space == "frames") != (chosen.view == "frames"):
        better = "frames" if chosen.view == "frames" else "pixels"
        raise ConfigError(f"metric '{space}.{chosen.name}' does not exist; did you mean '{better}.{chosen.name}'?")


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
    undefined = int((~np.isfinite(counted)).sum())
    return (
        entry
        | ({"n": len(counted)} if len(counted) != len(values) else {})
        | ({"undefined": undefined} if undefined else {})
    )


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
