"""The values of two runs for the stimuli that both scored, where these are values of one task.

The value of an identification, and that of R², depends on which stimuli were scored together. Where the runs scored
other sets, such values are computed again among the stimuli that both scored, from what each run kept; where a run kept
nothing, or too few stimuli are left, they are not compared, and a note gives the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import Metric, metric, metric_names
from evaluation.statistics.candidates import POWER, STIMULI, Among, restricted
from evaluation.statistics.order import TimeOrder
from evaluation.statistics.spaces import is_centred
from studies.runs import Run

Floats = NDArray[np.float64]
OTHER_SETS = "as values depend on which stimuli are scored together and the runs scored others"

SAME = 1e-3
"""Up to which share powers of the same truths may differ by rounding."""


@dataclass(frozen=True)
class CommonValues:
    """Two runs' values of a row for the stimuli that both have.

    Attributes
    ----------
    stimuli : (n,) those that both have, in the first run's order
    values : by metric, the first run's values and the second's, NaN where there is none
    order : of the stimuli in time, where a run has one
    notes : what was computed again, and what is not compared for which reason
    """

    stimuli: list[str]
    values: dict[str, tuple[Among, Among]]
    order: TimeOrder | None = None
    notes: list[str] = field(default_factory=list)


def common_values(first: Run, second: Run, row: str, names: Sequence[str], stimuli: list[str]) -> CommonValues:
    """Return the values of some metrics for stimuli that both runs have.

    Parameters
    ----------
    row : a row of both
    names : ``space.metric`` names of metrics that both have
    stimuli : those that both have
    """
    scored = scored_stimuli(first), scored_stimuli(second)
    together = [stimulus for stimulus in scored[0] if stimulus in set(scored[1])]
    are_same = len(scored[0]) == len(scored[1]) == len(together)
    same_classes = _same_classes(first, second, stimuli)
    values: dict[str, tuple[Among, Among]] = {}
    again: list[str] = []
    left_out: dict[str, list[str]] = {}
    for name in names:
        chosen = metric_of(name)
        if chosen is not None and chosen.needs_groups and not same_classes:
            left_out.setdefault("stimuli are of other classes in the two runs", []).append(name)
        elif are_same or (chosen is not None and not chosen.depends_on_set):
            values[name] = _values(first, row, name, stimuli), _values(second, row, name, stimuli)
        else:
            ours, theirs = (
                _among(run, row, name, several, together) for run, several in zip((first, second), scored, strict=True)
            )
            if isinstance(ours, str) or isinstance(theirs, str):
                reason = f"first run: {ours}" if isinstance(ours, str) else f"second run: {theirs}"
                left_out.setdefault(f"{OTHER_SETS}; {reason}", []).append(name)
            else:
                again.append(name)
                values[name] = _spread(ours, together, stimuli), _spread(theirs, together, stimuli)
    sizes = f"{len(scored[0])} and {len(scored[1])}, {len(together)} in common"
    orders = [_order(run, stimuli) for run in (first, second)]
    order = next((own for own in orders if own is not None), None)
    notes = [*_notes(sizes, again, left_out), *_other_means(first, second, [*values])]
    return CommonValues(stimuli, values, order, notes)


def metric_of(name: str) -> Metric | None:
    """Return the metric of a ``space.metric`` name; None for one that this version does not know."""
    return metric(name) if name.rpartition(".")[2] in metric_names() else None


def scored_stimuli(run: Run) -> list[str]:
    """Return the stimuli that were scored together: all that have a value in any row, of any metric."""
    n = len(run.values["stimuli"])
    known = np.zeros(n, bool)
    for scored in run.values["rows"].values():
        for listed in scored.values():
            known |= [value is not None for value in listed]
    return [name for name, there in zip(run.values["stimuli"], known, strict=True) if there]


def _among(run: Run, row: str, name: str, scored: list[str], together: list[str]) -> Among | str:
    """Return values (together,) among these stimuli alone, or the reason why they are not known."""
    if metric_of(name) is None:
        return "this version does not know the metric"
    values, classes = _values(run, row, name, together), _classes(run)
    if len(scored) == len(together):
        return values
    groups = None if classes is None else [classes[stimulus] for stimulus in together]
    return restricted(name, values.values, run.kept, row, together, groups)


def _values(run: Run, row: str, name: str, stimuli: list[str]) -> Among:
    """Return values as the run has them; those of an earlier version are taken for their own influences."""
    listed = run.values["rows"][row][name]
    moved = run.values.get("influences", {}).get(row, {}).get(name, listed)
    return Among(_of(listed, run.values["stimuli"], stimuli), _of(moved, run.values["stimuli"], stimuli))


def _of(listed: Sequence[Any] | Floats, names: Sequence[str], stimuli: Sequence[str]) -> Floats:
    """Return the values of some stimuli, NaN for one that is not listed or has none."""
    by_stimulus = dict(zip(names, listed, strict=True))
    return np.array([by_stimulus.get(stimulus) for stimulus in stimuli], np.float64)  # None becomes NaN


def _spread(among: Among, of: list[str], stimuli: list[str]) -> Among:
    """Return values of some stimuli as those of all, NaN for the others."""
    return Among(_of(among.values, of, stimuli), _of(among.influences, of, stimuli))


def _order(run: Run, stimuli: list[str]) -> TimeOrder | None:
    """Return the order of some stimuli in time, None where the run has none."""
    order = run.values.get("order")
    if not order:
        return None
    place = {stimulus: index for index, stimulus in enumerate(run.values["stimuli"])}
    rows = [place[stimulus] for stimulus in stimuli]
    return TimeOrder(np.array(order["segment"], np.str_)[rows], np.array(order["start_s"], np.float64)[rows])


def _classes(run: Run) -> dict[str, str] | None:
    groups = run.values.get("groups")
    return dict(zip(run.values["stimuli"], groups, strict=True)) if groups else None


def _same_classes(first: Run, second: Run, stimuli: list[str]) -> bool:
    """Say whether the runs have the same classes of stimuli, as far as both record them."""
    ours, theirs = _classes(first), _classes(second)
    return ours is None or theirs is None or all(ours[name] == theirs[name] for name in stimuli)


def _other_means(first: Run, second: Run, names: Sequence[str]) -> list[str]:
    """Return a note on the spaces that the runs centred by other training means, as far as both kept what tells it."""
    spaces = [space for space in dict.fromkeys(name.rpartition(".")[0] for name in names) if is_centred(space)]
    apart = [space for space in spaces if _differ(_powers(first, space), _powers(second, space))]
    if not apart:
        return []
    return [f"centred by other training means in the two runs, on which their scores depend: {', '.join(apart)}"]


def _powers(run: Run, space: str) -> dict[str, float]:
    """Return each true stimulus's squared distance to the training mean, as far as the run kept it."""
    power = run.kept.get(f"{POWER}/{space}")
    return {} if power is None else dict(zip(map(str, run.kept[STIMULI]), power.tolist(), strict=True))


def _differ(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    both = [name for name in first if name in second]
    return not np.allclose([first[name] for name in both], [second[name] for name in both], rtol=SAME)


def _notes(sizes: str, again: list[str], left_out: Mapping[str, list[str]]) -> list[str]:
    notes = [f"not compared, {reason}: {', '.join(names)}" for reason, names in left_out.items()]
    if again:
        notes.insert(0, f"computed again among the stimuli that both runs scored, {OTHER_SETS}: {', '.join(again)}")
    return [note.replace(OTHER_SETS, f"{OTHER_SETS} ({sizes})") for note in notes]
