"""The rows of a report, and how predictions become `metrics.json`: scores by stimulus, intervals, comparisons."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import Array, Groups, PerStimulus, metric
from evaluation.metrics.vectors import similarity
from evaluation.statistics.counting import Counting, Defined
from evaluation.statistics.intervals import (
    Blocks,
    adjusted_by_orders,
    holm,
    mean_interval,
    paired_interval,
    paired_p,
    reordered_p,
    scheme,
)
from evaluation.statistics.order import TimeOrder
from evaluation.statistics.spaces import Spaces, applicable, chance_of, in_space

RECONSTRUCTION = "reconstruction"
NEAREST, PRIOR = "nearest_training_clip", "prior"
MEAN, SHUFFLED = "mean_predictor", "shuffled_brain"
NOISE_CEILING, ORACLE = "noise_ceiling", "oracle"
CATEGORY = "category"
"""The mean of the training targets of the true class (or k-means cluster): what knowing only the category gives."""
TIME_ONLY = "time_only"
"""Targets predicted from the run and the time of the trials alone: what slow drifts of signal and film give."""
NUISANCE = "nuisance"
"""Targets predicted from the global signal and the head's motion alone: what arousal and artefacts give."""
OTHER_BRAIN = "other_brain"
"""Another subject's model on this subject's responses: what is common to brains whose columns correspond."""
STILL = "still"
"""The reconstruction with its middle frame held: what a still picture gives."""
SHUFFLED_FRAMES = "shuffled_frames"
"""The reconstruction with its frames in random order: what frames without their order give."""
CAPTION_ONLY = "caption_only"
"""The decoded caption (b) with the training mean in place of z: what the caption's half gives."""
Z_ONLY = "z_only"
"""The decoded z under an empty caption: what the other half gives."""

PARTIAL = (CATEGORY, TIME_ONLY, NUISANCE, OTHER_BRAIN, STILL, SHUFFLED_FRAMES, CAPTION_ONLY, Z_ONLY)
"""The rows that know a part of what a reconstruction claims to know; `EvaluationConfig.controls` chooses among them."""
ROWS = (RECONSTRUCTION, NEAREST, PRIOR, *PARTIAL, MEAN, SHUFFLED, NOISE_CEILING, ORACLE)
"""The rows of a reconstruction's report; a row that cannot be made is missing, and a note gives the reason."""
REFERENCES = ROWS[1:]
"""The rows that models are compared with."""
CONTROLS = (SHUFFLED, MEAN, PRIOR, NEAREST, *PARTIAL)
"""The rows that a reconstruction has to beat, the one that matters most first."""
CEILINGS = (NOISE_CEILING, ORACLE)
"""The rows that bound it; it is compared with them as well, since how far below it is needs a paired difference."""
ALL_VOXELS = "all_voxels"
"""The row of a regions report that decodes from all voxels together."""

FEW_BLOCKS = 20
"""Blocks below which chance is what the shifted brain earns: a metric's own level holds for many independent ones."""

SCHEMA = 1
Values: TypeAlias = dict[str, dict[str, PerStimulus]]
"""Values (n,), or (subject, n) of several subjects who saw the same stimuli, by row and by `space.metric`."""
Rows: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""The entries of `metrics.json` by row and by `space.metric`."""


class ScoredRow(dict[str, PerStimulus]):
    """One row of `Values` that also holds how much each stimulus moves the means; see `Metric.influences`.

    Attributes
    ----------
    influences : by `space.metric`, arrays of the values' shape, of the metrics whose values depend on other stimuli
    null : of the shuffled brain, by `space.metric`, the mean in each of many orders, (order,), where that is cheap
    """

    def __init__(
        self,
        values: Mapping[str, PerStimulus],
        influences: Mapping[str, PerStimulus],
        null: Mapping[str, PerStimulus] | None = None,
    ) -> None:
        super().__init__(values)
        self.influences = dict(influences)
        self.null = dict(null or {})


def influences_of(scored: Mapping[str, PerStimulus], name: str) -> PerStimulus:
    """Return how much each stimulus moves the mean of a row's metric: its values where nothing else is known."""
    values = scored[name]
    return scored.influences.get(name, values) if isinstance(scored, ScoredRow) else values


def per_stimulus(
    rows: Mapping[str, Spaces], truth: Spaces, *, metrics: Sequence[str], groups: Groups | None = None
) -> Values:
    """Score every stimulus of every row in the spaces that the row and the truth both have.

    Parameters
    ----------
    rows : predictions (n, ...) by row and space; the value of one that is not finite is NaN
    truth : arrays (n, ...) by space
    metrics, groups : see `applicable`

    Raises
    ------
    ValueError
        A prediction's shape is not its truth's.
    """
    names = applicable(metrics, truth, groups)
    return {row: score_row(row, predictions, truth, names, groups) for row, predictions in rows.items()}


def score_row(
    row: str,
    predictions: Spaces,
    truth: Spaces,
    names: Sequence[str],
    groups: Groups | None,
    known: "Similarities | None" = None,
) -> ScoredRow:
    """Score every stimulus of one row; `known` keeps its correlations. See `per_stimulus`, also for errors."""
    scored, influences, known = {}, {}, known or Similarities()
    for name in names:
        space = name.rpartition(".")[0]
        predicted, wanted = in_space(predictions, space), in_space(truth, space)
        if predicted is None or wanted is None:
            continue
        try:
            scored[name] = known.score(name, predicted, wanted, groups)
            if metric(name).influence is not None:
                influences[name] = known.influences(name, predicted, wanted, groups)
        except ValueError as error:
            raise ValueError(f"row '{row}', space '{space}': {error}") from error
    return ScoredRow(scored, influences)


class Similarities:
    """Correlations of all predictions with all truths by space, which several metrics and orders of stimuli share."""

    def __init__(self) -> None:
        self._known: dict[str, NDArray[np.float64]] = {}

    @property
    def of_spaces(self) -> Mapping[str, NDArray[np.float64]]:
        """The correlations (n, n) of each space that was scored by them."""
        return self._known

    def score(
        self,
        name: str,
        prediction: Array,
        truth: Array,
        groups: Groups | None = None,
        order: NDArray[np.int64] | None = None,
    ) -> PerStimulus:
        """Score every stimulus by a metric, `space.metric`; see `Metric.per_stimulus`.

        `order` (n,) says which prediction every truth is compared with; its own by default. All calls for one space
        must pass the same arrays.
        """
        chosen = metric(name)
        if chosen.of_similarity is None:
            return chosen.per_stimulus(prediction if order is None else prediction[order], truth, groups)
        chosen.check(prediction, truth, groups)
        r = self._correlations(name, prediction, truth, order)
        return chosen.of_similarity(r, None if groups is None else np.asarray(groups))

    def influences(
        self,
        name: str,
        prediction: Array,
        truth: Array,
        groups: Groups | None = None,
        order: NDArray[np.int64] | None = None,
    ) -> PerStimulus:
        """Return how much each stimulus moves the mean of a metric; parameters as in `score`."""
        chosen = metric(name)
        if chosen.influence_of_similarity is None:
            return chosen.influences(prediction if order is None else prediction[order], truth, groups)
        r = self._correlations(name, prediction, truth, order)
        return chosen.influence_of_similarity(r, None if groups is None else np.asarray(groups))

    def pairs(self, name: str, prediction: Array, truth: Array, groups: Groups | None = None) -> Array | None:
        """Return the value of every prediction, (row), for every truth, (column); None where that is not cheap.

        The value of one depends on no other prediction, so n orders that shift all by one more hold every pair.
        """
        chosen, kinds = metric(name), None if groups is None else np.asarray(groups)
        if chosen.of_similarity is None:
            return None if chosen.pairs is None else chosen.pairs(prediction, truth, kinds)
        r, place = self._correlations(name, prediction, truth, None), np.arange(len(truth))
        found = np.empty(r.shape)
        for step in place:
            order = (place + step) % len(place)
            found[order, place] = chosen.of_similarity(r[order], kinds)
        return found

    def _correlations(
        self, name: str, prediction: Array, truth: Array, order: NDArray[np.int64] | None
    ) -> NDArray[np.float64]:
        space = name.rpartition(".")[0]
        if space not in self._known:
            self._known[space] = similarity(prediction, truth)
        return self._known[space] if order is None else self._known[space][order]


def average(parts: Sequence[Values]) -> Values:
    """Average per-stimulus values over several orders of the same stimuli, as the shuffled brain has them.

    Rows and metrics that are not in every part are dropped. NaN stays NaN.

    Raises
    ------
    ValueError
        There is no part, or the parts differ in the number of stimuli.
    """
    return _joined(parts, lambda arrays: np.asarray(np.mean(arrays, axis=0)))


def by_subject(parts: Sequence[Values]) -> Values:
    """Stack the values of subjects who saw the same stimuli, (subject, n); raises as `average` does.

    Values of a single subject stay (n,).
    """
    return _joined(parts, lambda arrays: np.asarray(arrays[0] if len(arrays) == 1 else np.stack(arrays)))


def _joined(parts: Sequence[Values], join: Callable[[list[PerStimulus]], PerStimulus]) -> Values:
    if not parts:
        raise ValueError("no values to join; expected those of 1 subject or more")
    joined: Values = {}
    for row in (row for row in parts[0] if all(row in part for part in parts)):
        names = [name for name in parts[0][row] if all(name in part[row] for part in parts)]
        joined[row] = ScoredRow(
            {name: join([part[row][name] for part in parts]) for name in names},
            {name: join([influences_of(part[row], name) for part in parts]) for name in names
             if any(name in getattr(part[row], "influences", {}) for part in parts)},
        )  # fmt: skip
    return joined


def summarise(
    values: Values,
    *,
    groups: Groups | None = None,
    truth: Spaces | None = None,
    order: TimeOrder | None = None,
    defined: Defined | None = None,
) -> Rows:
    """Turn per-stimulus values into the entries of `metrics.json`: mean, 95 % interval, chance, direction.

    A stimulus that does not count (alone in its class, or without a value by its truth; see `counting`) is skipped in
    every row, and `n` is then the number of the others. Any other NaN makes the mean null, and `undefined` is their
    number; none is dropped.

    Parameters
    ----------
    values : of several subjects, (subject, n), intervals are over subjects and stimuli, crossed
    truth : arrays (n, ...) by space, for the chance level of metrics where it depends on the truth; null without
    order : where stimuli are ordered in time. Intervals are then over blocks of them, and an entry holds
        `block_length`, the stimuli in one; with fewer than `FEW_BLOCKS` blocks, chance is the shuffled brain's mean,
        if that row is there.
    defined : which truths give a metric a value; see `counting.Defined`
    """
    names = dict.fromkeys(name for scored in values.values() for name in scored)
    chances = {name: _chance(name, truth) for name in names}
    counting, rows = Counting(groups, defined, order), {}
    for row, scored in values.items():
        time = counting.in_time({name: influences_of(scored, name) for name in scored})
        rows[row] = {name: _entry(scored, name, chances[name], time) for name in scored}
    return rows if order is None else _with_shifted_chance(rows, len(order))


def _chance(name: str, truth: Spaces | None) -> float | None:
    chance = chance_of(name, None if truth is None else in_space(truth, name.rpartition(".")[0]))
    return None if chance is None else _number(chance)


def _entry(scored: Mapping[str, PerStimulus], name: str, chance: float | None, counting: Counting) -> dict[str, Any]:
    chosen, values = metric(name), scored[name]
    mask = counting.mask(name, values.shape[-1])
    counted, influences = values[..., mask], influences_of(scored, name)[..., mask]
    blocks, length = counting.blocks(name, mask)
    low, high = mean_interval(influences, span=chosen.span, blocks=blocks)
    mean = float(counted.mean()) if counted.size else math.nan
    entry: dict[str, Any] = {
        "value": _number(mean),
        "ci95": [_number(np.minimum(low, mean)), _number(np.maximum(high, mean))],  # of influences: another last bit
        "chance": chance,
        "higher_is_better": chosen.higher_is_better,
    }
    return entry | _counts(values, counted) | length


def _with_shifted_chance(rows: Rows, n: int) -> Rows:
    """Set chance to what the shifted brain earns where there are few blocks, in metrics that have a chance level."""
    shifted = rows.get(SHUFFLED, {})
    for row, entries in rows.items():
        for name, entry in entries.items():
            few = entry.get("n", n) < FEW_BLOCKS * entry["block_length"]
            if row != SHUFFLED and few and entry["chance"] is not None and name in shifted:
                entry["chance"] = shifted[name]["value"]
    return rows


def _counts(values: PerStimulus, counted: PerStimulus) -> dict[str, int]:
    """Return `n` where not all stimuli count, and `undefined` where some of these have no value."""
    counts = {"n": counted.shape[-1]} if counted.shape[-1] != values.shape[-1] else {}
    undefined = int((~np.isfinite(np.atleast_2d(counted)).all(axis=0)).sum()) if counted.size else 0
    return counts | ({"undefined": undefined} if undefined else {})


def differences(values: Values, baseline: str, *, groups: Groups | None = None, order: TimeOrder | None = None) -> Rows:
    """Compare every model's row with the baseline's, stimulus by stimulus.

    Parameters
    ----------
    baseline : the row that the others are compared with; it is not compared itself, nor are `REFERENCES`
    order : see `summarise`

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
    against, counting = values[baseline], Counting(groups, order=order)
    found: Rows = {}
    for row, one in values.items():
        if row not in (baseline, *REFERENCES):
            time = _in_time(one, against, counting)
            found[row] = {name: _difference(name, one, against, time)[0] for name in one if name in against}
    return found


def _in_time(scored: Mapping[str, PerStimulus], against: Mapping[str, PerStimulus], counting: Counting) -> Counting:
    both = [name for name in scored if name in against]
    return counting.in_time({name: influences_of(scored, name) - influences_of(against, name) for name in both})


def _difference(
    name: str, scored: Mapping[str, PerStimulus], against: Mapping[str, PerStimulus], counting: Counting
) -> tuple[dict[str, Any], Blocks | None]:
    """Return an entry of `differences`, and the blocks that it was computed by."""
    chosen, values, others = metric(name), scored[name], against[name]
    mask = counting.mask(name, values.shape[-1])
    ours, theirs = influences_of(scored, name)[..., mask], influences_of(against, name)[..., mask]
    blocks, length = counting.blocks(name, mask)
    _, low, high = paired_interval(ours, theirs, span=chosen.span, blocks=blocks)
    counted = values[..., mask] - others[..., mask]
    entry = {
        "value": _number(float(counted.mean()) if counted.size else math.nan),
        "ci95": [_number(low), _number(high)],
        "higher_is_better": chosen.higher_is_better,
    }
    return entry | _counts(values, counted) | length, blocks


def comparisons(
    values: Values,
    *,
    seed: int,
    groups: Groups | None = None,
    row: str = RECONSTRUCTION,
    order: TimeOrder | None = None,
    defined: Defined | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare a row with every control and ceiling: paired differences with intervals, and a paired permutation test.

    Parameters
    ----------
    seed : of the flips of signs
    order, defined : see `summarise`

    Returns
    -------
    dict
        ``{control: {"pixels.two_way": {"value", "ci95", "higher_is_better", "p", "p_adjusted"}}}`` for the rows of
        `CONTROLS` and `CEILINGS` that exist, in that order. `p` is two-sided: of flipped signs (`intervals.paired_p`),
        and against the shuffled brain, of the orders (`intervals.reordered_p`), where the score in each is known.
        `p_adjusted` is adjusted over the metrics of one row: by the orders that those tests share
        (`intervals.adjusted_by_orders`), of the others by Holm's method, and where a row has both, times two.
    """
    ours, counting = values.get(row, {}), Counting(groups, defined, order)
    found = {}
    for control in (control for control in (*CONTROLS, *CEILINGS) if control in values):
        against = values[control]
        time = _in_time(ours, against, counting)
        compared = {name: _compared(name, ours, against, seed, time) for name in ours if name in against}
        nulls = against.null if isinstance(against, ScoredRow) else {}
        together = {name: _counted_mean(name, ours, counting) for name in compared if name in nulls}
        found[control] = _adjusted(compared, adjusted_by_orders(together, nulls))
    return found


def _compared(
    name: str,
    ours: Mapping[str, PerStimulus],
    theirs: Mapping[str, PerStimulus],
    seed: int,
    counting: Counting,
) -> dict[str, Any]:
    entry, blocks = _difference(name, ours, theirs, counting)
    mask = counting.mask(name, ours[name].shape[-1])
    if isinstance(theirs, ScoredRow) and name in theirs.null:
        return {**entry, "p": reordered_p(_counted_mean(name, ours, counting), theirs.null[name])}
    p = paired_p(ours[name][..., mask], theirs[name][..., mask], seed=seed, blocks=blocks)
    return {**entry, "p": p}


def _counted_mean(name: str, scored: Mapping[str, PerStimulus], counting: Counting) -> float:
    mask = counting.mask(name, scored[name].shape[-1])
    return float(scored[name][..., mask].mean())


def _adjusted(compared: dict[str, dict[str, Any]], by_orders: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return comparisons with `p_adjusted`; `by_orders` holds those that are adjusted already, among themselves."""
    others = holm({name: entry["p"] for name, entry in compared.items() if name not in by_orders})
    families = bool(by_orders) + bool(others)
    adjusted = {name: min(1.0, families * p) if math.isfinite(p) else p for name, p in {**others, **by_orders}.items()}
    return {
        name: {**entry, "p": _number(entry["p"]), "p_adjusted": _number(adjusted[name])}
        for name, entry in compared.items()
    }


def how_computed(rows: Iterable[Rows], *, subjects: int = 1, order: TimeOrder | None = None) -> dict[str, Any]:
    """Return the keys of a report that name its intervals: `intervals`, and in time `block_length`, the longest."""
    named: dict[str, Any] = {"intervals": scheme(subjects, in_time=order is not None)}
    if order is None:
        return named
    entries = [entry for one in rows for scored in one.values() for entry in scored.values()]
    return named | {"block_length": max((entry.get("block_length", 1) for entry in entries), default=1)}


def report(study: str, run: str, n_test: int, rows: Rows, **more: Any) -> dict[str, Any]:
    """Return the content of `metrics.json`; `more` is added at the top level. NaN and infinities become null."""
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
