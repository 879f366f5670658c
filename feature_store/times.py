"""What the tables of a store say of time: the run and onset of trials, the place of clips in their movie.

Trials have a time where their table has the columns ``run`` and ``onset_s`` (and, where the source knows them,
``session``, ``task`` and ``duration_s``); stimuli have a place where theirs has ``segment`` (the movie or episode) and
``start_s`` (and ``duration_s``). Stores that were written before have none of these, and are read as such.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.times import Times, with_spacing
from feature_store.cells import is_missing

RUN_COLUMNS = {"session": "ses", "task": "task", "run": "run"}
"""Columns of trials that together name a run, and the entity of BIDS that each is."""
PLACE = ("segment", "start_s", "duration_s")
"""Columns of stimuli that say where in which movie or episode they lie, in seconds."""


def run_labels(trials: pd.DataFrame) -> NDArray[np.str_] | None:
    """Return the run of every trial, such as ``"ses-02_task-movie_run-3"``; None where the table has no runs.

    A trial whose run is not known has the label ``""``.
    """
    if "run" not in trials:
        return None
    parts = [_texts(trials[column], entity) for column, entity in RUN_COLUMNS.items() if column in trials]
    labels = ["_".join(part for part in row if part) for row in zip(*parts, strict=True)]
    known = _texts(trials["run"], "run")
    return np.array([label if run else "" for label, run in zip(labels, known, strict=True)], dtype=np.str_)


def _texts(column: "pd.Series", entity: str) -> list[str]:
    texts = [str(value).removeprefix(f"{entity}-") for value in column]
    return ["" if is_missing(text) else f"{entity}-{text}" for text in texts]


def trial_times(trials: pd.DataFrame) -> Times | None:
    """Return when trials were shown, or None where their runs or onsets are not known."""
    labels = run_labels(trials)
    if labels is None or "onset_s" not in trials:
        return None
    onsets = np.where(labels == "", np.nan, pd.to_numeric(trials["onset_s"], errors="coerce").to_numpy(np.float64))
    times = Times.of(labels, onsets, _durations(trials))
    return times if np.isfinite(onsets).any() else None


def places(stimuli: pd.DataFrame, names: Sequence[str] | None = None) -> Times | None:
    """Return where stimuli lie in their movies or episodes, or None where the table knows of no place.

    Parameters
    ----------
    stimuli : table with the columns stimulus, ``segment``, ``start_s`` and, where known, ``duration_s``; a clip whose
        duration is not known lasts as long as the closest two starts of its segment are apart
    names : the stimuli whose places are asked for, by default all in the table's order; one that is absent is unknown
    """
    if "segment" not in stimuli or "start_s" not in stimuli:
        return None
    segments = [("" if is_missing(value) else str(value)) for value in stimuli["segment"]]
    starts = pd.to_numeric(stimuli["start_s"], errors="coerce").to_numpy(np.float64)
    starts = np.where(np.array(segments, dtype=np.str_) == "", np.nan, starts)
    if not np.isfinite(starts).any():
        return None
    times = with_spacing(Times.of(segments, starts, _durations(stimuli)))
    if names is None:
        return times
    row_of = {str(name): row for row, name in enumerate(stimuli["stimulus"])}
    rows = np.array([row_of.get(name, -1) for name in names], dtype=np.int64)
    chosen = times.take(rows)
    return replace(chosen, start_s=np.where(rows < 0, np.nan, chosen.start_s))


def _durations(table: pd.DataFrame) -> NDArray[np.float64] | None:
    if "duration_s" not in table:
        return None
    return np.asarray(pd.to_numeric(table["duration_s"], errors="coerce").to_numpy(np.float64))


def without_time(trials: pd.DataFrame, stimuli: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which trials have neither a run and an onset nor a place in a movie, (trial,).

    Parameters
    ----------
    stimuli : the table of all stimuli, for their places
    """
    known = np.zeros(len(trials), dtype=bool)
    for times in (trial_times(trials), places(stimuli, [str(name) for name in trials["stimulus"]])):
        if times is not None:
            known |= np.isfinite(times.start_s)
    return ~known


def near_test(
    training: pd.DataFrame, test: pd.DataFrame, stimuli: pd.DataFrame, within_s: float
) -> NDArray[np.bool_] | None:
    """Return which training trials lie within so many seconds of a test trial of the same run or movie, (trial,).

    None where the tables know neither runs and onsets nor places.

    Parameters
    ----------
    training, test : tables of trials
    stimuli : the table of all stimuli, for their places
    """
    ours, theirs = trial_times(training), trial_times(test)
    shown = [places(stimuli, [str(name) for name in table["stimulus"]]) for table in (training, test)]
    found = [
        one.near(other, within_s)
        for one, other in ((ours, theirs), (shown[0], shown[1]))
        if one is not None and other is not None
    ]
    return np.logical_or.reduce(found) if found else None
