"""The order of stimuli in time: what is held out together, which statistics apply, and what cannot be told at all."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import ConfigError
from core.times import Times
from evaluation.diagnoses.time import (
    Neighbours,
    Timing,
    alike,
    first_in_time,
    many_near,
    near_counts_of,
    reach_s,
    time_report,
)
from evaluation.statistics.order import TimeOrder
from feature_store import Store
from feature_store.sources.base import SPLITS, Split
from feature_store.times import places, trial_times

Array = NDArray[Any]
MAX_STIMULI, MAX_VALUES, BLOCK = 1500, 1024, 64
"""Stimuli whose order is looked at, values of each target that are compared, and stimuli that are read at once."""


def fold_times(trials: pd.DataFrame, stimuli: pd.DataFrame) -> Times | None:
    """Return when each trial was shown, where that puts the stimuli into one order; None otherwise.

    Stimuli are ordered by their place in a movie, or by run and onset where each was shown once. Where stimuli were
    repeated elsewhere among others, no block of time holds all trials of a stimulus.
    """
    names = [str(name) for name in trials["stimulus"]]
    shown = places(stimuli, names)
    if shown is not None and shown.known:
        return shown
    times = trial_times(trials)
    return times if times is not None and times.known and len(set(names)) == len(names) else None


def order_of(
    store: Store,
    subject: str,
    target: str,
    stimuli: Sequence[str],
    *,
    splits: Sequence[Split] = ("test",),
    dense: bool = False,
) -> TimeOrder | None:
    """Return the order of stimuli in time, or None where they are exchangeable: statistics over them need no blocks.

    Parameters
    ----------
    target : whose table has the stimuli's places, if any
    stimuli : those that are scored, in their order
    splits : where they are
    dense : whether trials are dense in time (see `evaluation.diagnoses.time`): stimuli that were repeated in other
        orders then have the order of their first presentations
    """
    table = pd.concat([store.target(target).stimuli(split) for split in splits], ignore_index=True)
    shown = places(table, stimuli)
    if shown is not None and shown.known:
        return TimeOrder(shown.segment, shown.start_s)
    trials = pd.concat([store.responses(subject).trials(split) for split in splits], ignore_index=True)
    trials = trials[trials["stimulus"].isin(set(stimuli))]
    times = trial_times(trials)
    if times is None or not times.known or (not dense and trials["stimulus"].duplicated().any()):
        return None
    first: dict[str, int] = {}
    for row in np.lexsort((times.start_s, times.segment)):
        first.setdefault(str(trials["stimulus"].iloc[row]), int(row))
    if not set(stimuli) <= set(first):
        return None
    chosen = times.take(np.array([first[name] for name in stimuli], dtype=np.int64))
    return TimeOrder(chosen.segment, chosen.start_s)


def part_of(order: TimeOrder, rows: NDArray[np.int64]) -> TimeOrder:
    """Return the order of some of the stimuli."""
    return TimeOrder(order.segment[rows], order.start_s[rows])


def diagnose_time(
    store: Store,
    subjects: Sequence[str],
    targets: Sequence[str],
    trained_on: Collection[str] | None,
    *,
    allowed: bool,
    seed: int,
) -> dict[str, Any]:
    """Return the diagnosis `time` of a report; see `evaluation.diagnoses.time.time_report`.

    Parameters
    ----------
    targets : whose values show whether stimuli follow each other in time
    trained_on : the training stimuli that models are trained on; all by default
    allowed : `evaluation.allow_dense_time`
    """
    table = pd.concat([store.target(targets[0]).stimuli(split) for split in SPLITS], ignore_index=True)
    tables = {subject: _trials(store, subject, trained_on) for subject in subjects}
    test = {subject: _timing(own["test"], table) for subject, own in tables.items()}
    train = {subject: _timing(own["train"], table) for subject, own in tables.items()}
    neighbours: list[Neighbours] = []
    reach = max((_reach(store, s, targets, tables[s], train[s]) for s in subjects), default=0.0)
    within_s, counts = near_counts_of(test, train, reach)
    if many_near(counts, within_s):
        worst = max(counts, key=lambda subject: counts[subject][0] / counts[subject][1])
        trials = pd.concat([tables[worst][split] for split in SPLITS], ignore_index=True)
        neighbours = _neighbours(store, targets, trials, table, within_s, seed)
    purged = sum(int(store.responses(s).attributes.get("purge", {}).get("dropped", 0)) for s in subjects)
    return time_report(test, train, neighbours, allowed=allowed, purged=purged, reach=reach)


def refuse_dense(report: Mapping[str, Any], study: str) -> None:
    """Raise `ConfigError` where trials are dense in time and the study does not allow it."""
    if report["dense"] and not report["allowed"]:
        raise ConfigError(
            f"{study}: {report['note']}; split by run, segment or block with purge_s (source.split), or set "
            "evaluation.allow_dense_time to true, and the verdict will report it"
        )


def _trials(store: Store, subject: str, trained_on: Collection[str] | None) -> dict[Split, pd.DataFrame]:
    recorded = store.responses(subject)
    tables: dict[Split, pd.DataFrame] = {split: recorded.trials(split) for split in SPLITS}
    if trained_on is not None:
        tables["train"] = tables["train"][tables["train"]["stimulus"].isin(set(trained_on))]
    return tables


def _timing(trials: pd.DataFrame, stimuli: pd.DataFrame) -> Timing:
    return Timing(trial_times(trials), places(stimuli, [str(name) for name in trials["stimulus"]]))


def _reach(
    store: Store, subject: str, targets: Sequence[str], tables: Mapping[Split, pd.DataFrame], timing: Timing
) -> float:
    """Return for how long a subject's training responses and what they showed stay correlated; 0 without times.

    Of stimuli that were repeated only the first presentations are looked at, in the order of their runs.
    """
    times = timing.runs or timing.places
    if times is None:
        return 0.0
    rows = first_in_time(times)
    names = [str(tables["train"]["stimulus"].iloc[row]) for row in rows]
    first = {name: place for place, name in reversed(list(enumerate(names)))}
    kept = np.sort(np.array(list(first.values()), dtype=np.int64))
    rows, names = rows[kept], [names[place] for place in kept]
    view, _ = store.responses(subject).view("train")
    brain = np.asarray(view[tables["train"].index.to_numpy()[rows]], np.float32)
    reaches = [0.0]
    for target in dict.fromkeys(targets):
        values, known = _values(store, target, set(names))
        row_of = {name: row for row, name in enumerate(known)}
        there = np.array([name in row_of for name in names], dtype=bool)
        if there.sum() > 2:
            shown = values[[row_of[name] for name in names if name in row_of]]
            reaches.append(reach_s(shown, brain[there], times.take(rows[there])))
    return max(reaches)


def _neighbours(
    store: Store, targets: Sequence[str], trials: pd.DataFrame, stimuli: pd.DataFrame, within_s: float, seed: int
) -> list[Neighbours]:
    """Return how much neighbours are alike, by target, run and place; of the first stimuli where there are many."""
    names = list(dict.fromkeys(str(name) for name in trials["stimulus"]))[:MAX_STIMULI]
    found = []
    for target in dict.fromkeys(targets):
        values, known = _values(store, target, set(names))
        row_of = {name: row for row, name in enumerate(known)}
        here = trials[trials["stimulus"].isin(row_of)]
        shown = np.array([row_of[str(name)] for name in here["stimulus"]], dtype=np.int64)
        timing = _timing(here, stimuli)
        for times in (timing.runs, timing.places):
            one = None if times is None else alike(values, shown, times, within_s, seed=seed)
            found += [] if one is None else [one]
    return found


def _values(store: Store, target: str, wanted: set[str]) -> tuple[Array, list[str]]:
    """Return some of a target's values for some stimuli, (stimulus, value), evenly spaced where there are many."""
    parts: list[Array] = []
    names: list[str] = []
    for split in SPLITS:
        rows, known = store.target(target).values(split)
        step = max(1, int(np.prod(rows.shape[1:])) // MAX_VALUES)
        for start in range(0, len(known), BLOCK):
            here = np.array([name in wanted for name in known[start : start + BLOCK]], dtype=bool)
            if here.any():
                block = np.asarray(rows[start : start + BLOCK])[here]
                parts.append(block.reshape(len(block), -1)[:, ::step].astype(np.float32))
                names += [name for name, keep in zip(known[start : start + BLOCK], here, strict=True) if keep]
    return np.concatenate(parts), names
