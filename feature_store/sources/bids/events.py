"""Reads a run's events: which trials show which stimulus and when, in which split, with which caption.

Events that repeat are refused: under a window a repeated row would be a repetition without noise, and in a model two
regressors of one event share its response.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import Config
from core.errors import SourceError, SourceMissing
from feature_store.cells import is_missing, missing
from feature_store.sources.base import NAME, check_inside, present
from feature_store.sources.bids.files import Run
from feature_store.sources.splits import OF_TIME, SplitConfig, drawn, in_test
from feature_store.sources.timeseries import ROUNDING_S, Events
from feature_store.sources.tsv import durations, hint, natural, read_tsv, seconds, with_places

MISSING = "n/a"
"""How BIDS writes a missing value."""
FAULTS = {
    "value": "stands for {a} and {b}; rename one",
    "split": "is for {a} and {b}; each belongs into one split; fix source.split",
    "segment": "is of {a} and of {b}; a clip is of one movie; fix source.segment_column",
    "start_s": "begins at {a} and at {b}; a clip has one place in its movie; fix source.start_column",
}
"""What is wrong with a stimulus that has two values in one of these columns."""
FILE_COLUMN = "stim_file"
"""The column that BIDS reserves for files below ``stimuli/``."""


class EventsConfig(Config):
    """The part of a `BidsConfig` that is about events."""

    stimulus_column: str = FILE_COLUMN
    """The column that names the stimulus."""
    ignore: tuple[str, ...] = (MISSING,)
    """Values of that column that are no stimulus and evoke nothing of interest, such as that of rest."""
    nuisance: tuple[str, ...] = ()
    """Values that are no stimulus but evoke a response, such as an oddball's: a GLM models these events together."""
    caption_column: str | None = None
    """A column that describes the stimulus in words."""
    segment_column: str | None = None
    """A column that names the movie or episode that the stimulus is a clip of."""
    start_column: str | None = None
    """A column of when in that movie the clip begins, in seconds."""
    repeated_rows: Literal["refuse", "drop"] = "refuse"
    """Rows with the stimulus and the onset of a row before: the table is refused, or they are dropped."""
    same_onset: Literal["refuse", "allow"] = "refuse"
    """Whether two stimuli may begin at one onset of a run; a GLM cannot tell such apart."""
    split: SplitConfig

    @property
    def columns(self) -> list[str]:
        """The columns that must be there."""
        named = ["onset", "duration", self.stimulus_column, self.caption_column, self.split.column]
        named += [self.segment_column, self.start_column]
        return list(dict.fromkeys(name for name in named if name is not None))


def read_trials(runs: list[Run], config: EventsConfig) -> pd.DataFrame:
    """Read the trials of a subject's runs: one row per trial, in the order of runs and onsets.

    Columns are stimulus, repetition, session, task, run, onset_s, duration_s (NaN where the events have none), value
    (of the stimulus column), key (what a split names), caption, place (for messages), index (of the run), and segment
    and start_s where the config names their columns.

    Raises
    ------
    SourceMissing, SourceError
        A table is absent, lacks a column, or holds what cannot be an onset, a duration or a stimulus.
    """
    tables = [_read_run(run, config).assign(index=index) for index, run in enumerate(runs)]
    trials = pd.concat(tables, ignore_index=True)
    if trials.empty:
        raise SourceError(f"{runs[0].events}: no event shows a stimulus, here and in all runs; fix source.ignore")
    trials["repetition"] = trials.groupby("stimulus").cumcount()
    return trials


def with_splits(tables: dict[str, pd.DataFrame], split: SplitConfig, where: Path) -> dict[str, pd.DataFrame]:
    """Return all subjects' trials with the column split; what is drawn is drawn once for all of them.

    Raises `SourceError` as `in_test` and `drawn` do.
    """
    if isinstance(split.test, list) and split.by in OF_TIME:  # a run's last block is that of each subject's own run
        tested = [in_test(split, trials, where / subject) for subject, trials in tables.items()]
    else:
        every = pd.concat(tables.values(), ignore_index=True)
        tested = np.split(_tested(split, every, where), np.cumsum([len(trials) for trials in tables.values()])[:-1])
    dealt = zip(tables.items(), tested, strict=True)
    return {subject: trials.assign(split=np.where(test, "test", "train")) for (subject, trials), test in dealt}


def _tested(split: SplitConfig, trials: pd.DataFrame, where: Path) -> NDArray[np.bool_]:
    if split.by in OF_TIME:
        return in_test(split, trials, where)
    by_stimulus = split.by == "stimulus"
    test = split.test
    if not isinstance(test, list):
        test = sorted(drawn(split, trials["stimulus" if by_stimulus else "key"], where))
    return (trials["key"].isin(test) | (trials["stimulus"].isin(test) & by_stimulus)).to_numpy(np.bool_)


def check_splits(trials: pd.DataFrame, config: EventsConfig, where: Path) -> None:
    """Raise `SourceError` where a name stands for two stimuli, a stimulus is in both splits, or a split is empty."""
    by = config.split.by
    known = sorted(set(trials["key"]) | set(trials["stimulus"] if by == "stimulus" else []), key=natural)
    named = config.split.test if isinstance(config.split.test, list) and by not in OF_TIME else []
    for value in named:
        if value not in known:
            what = f"value in the column '{config.split.column}'" if by == "column" else by
            raise SourceError(f"{where}: source.split.test names '{value}', no {what} here{hint(value, known)}")
    first = trials.drop_duplicates("stimulus").set_index("stimulus")
    for column, fault in ((column, fault) for column, fault in FAULTS.items() if column in trials):
        other = trials[first.loc[trials["stimulus"], column].to_numpy() != trials[column].to_numpy()]
        if len(other):
            trial = other.iloc[0]
            before = first.loc[trial["stimulus"]]
            found = fault.format(a=f"{before[column]} in {before['place']}", b=f"{trial[column]} in {trial['place']}")
            raise SourceError(f"{where}: stimulus '{trial['stimulus']}' {found}")


def stimulus_name(value: str, column: str) -> str:
    """Return a stimulus's name, which may name a file: the stem of a stimulus file, else the value itself.

    Other characters than letters, digits, '.', '_' and '-' become '_'; empty where nothing is left.
    """
    text = PurePosixPath(value).stem if column == FILE_COLUMN else value
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")
    return name if NAME.fullmatch(name) else ""


def read_nuisance(run: Run, config: EventsConfig) -> Events:
    """Return the events of a run that are no stimulus but evoke a response; see `EventsConfig.nuisance`."""
    table = _read_events(run, config)
    table = table[_among(table[config.stimulus_column], config.nuisance)]
    table = table.assign(onset_s=seconds(table, "onset"), duration_s=durations(table))
    table = table[~_repeated(table[config.stimulus_column], table["onset_s"], table["place"], config)]
    times = [table[name].to_numpy(np.float64) for name in ("onset_s", "duration_s")]
    return Events(times[0], times[1], table["place"].tolist())


def _read_events(run: Run, config: EventsConfig) -> pd.DataFrame:
    """Read a run's events as text, with the place of each for messages."""
    if run.events is None:
        raise SourceMissing(
            f"{run.image}: no events.tsv applies to this run; expected one in the raw dataset, beside it or above; "
            "add it, or name the tasks that have events in source.task"
        )
    return with_places(read_tsv(present(run.events, "fetch the dataset again"), config.columns), run.events)


def _read_run(run: Run, config: EventsConfig) -> pd.DataFrame:
    table = _read_events(run, config)
    aside = _among(table[config.stimulus_column], [*config.ignore, *config.nuisance])
    table = table[~aside].reset_index(drop=True)
    values = table[config.stimulus_column]
    trials = pd.DataFrame(
        {
            "stimulus": [_named(*row, config) for row in zip(values, table["place"], strict=True)],
            "session": run.session,
            "task": run.task + run.variant,
            "run": run.number,
            "onset_s": seconds(table, "onset"),
            "duration_s": durations(table),
            "value": values,
            "caption": table[config.caption_column] if config.caption_column else MISSING,
            "place": table["place"],
        }
    )
    if config.segment_column:
        trials["segment"] = table[config.segment_column]
    if config.start_column:
        trials["start_s"] = seconds(table, config.start_column)
    trials["key"] = _keys(table, run, config)
    trials = trials[~_repeated(trials["value"], trials["onset_s"], trials["place"], config)]
    trials = trials.sort_values("onset_s", kind="stable", ignore_index=True)
    if config.same_onset == "refuse":
        _refuse_same_onset(trials)
    return trials


def _among(values: "pd.Series[str]", names: Sequence[str]) -> "pd.Series[bool]":
    """Return which values are among some names, of which ``n/a`` stands for ``N/A`` as well."""
    return values.isin(names) | (values.str.lower() == MISSING) & (MISSING in names)


def _keys(table: pd.DataFrame, run: Run, config: EventsConfig) -> "pd.Series[str] | str":
    """Return what `SplitConfig.test` is compared with, of each event."""
    if config.split.column:
        keys = table[config.split.column]
        named = config.split.test if isinstance(config.split.test, list) else []
        for row in np.flatnonzero(missing(keys) & ~keys.isin(named)):
            raise SourceError(
                f"{table['place'].iloc[row]}: {keys.name} is '{keys.iloc[row]}'; the split is by this column, so "
                "give it a value"
            )
        return keys
    return run.task if config.split.by == "task" else table[config.stimulus_column]


def _repeated(
    values: "pd.Series[str]", onsets: "pd.Series[float]", places: "pd.Series[str]", config: EventsConfig
) -> "pd.Series[bool]":
    """Return which events have the value and the onset of one before; raises `SourceError` unless they are dropped."""
    events = pd.DataFrame({"value": values, "onset_s": onsets, "place": places}).sort_values("onset_s", kind="stable")
    since = events.groupby("value")["onset_s"].diff()
    repeated = (since <= ROUNDING_S).reindex(values.index)
    if repeated.any() and config.repeated_rows == "refuse":
        event = events.loc[repeated.index[repeated.to_numpy()][0]]
        first = events[
            (events["value"] == event["value"]) & ((event["onset_s"] - events["onset_s"]).abs() <= ROUNDING_S)
        ]
        raise SourceError(
            f"{event['place']} repeats line {_line(first.iloc[0]['place'])}: {config.stimulus_column} "
            f"'{event['value']}' at {event['onset_s']:g} s; remove one of the two, or set source.repeated_rows to drop"
        )
    return repeated


def _refuse_same_onset(trials: pd.DataFrame) -> None:
    """Raise `SourceError` where two stimuli of a run, in the order of onsets, begin at once."""
    for row in np.flatnonzero(trials["onset_s"].diff() <= ROUNDING_S):
        first, second = trials.iloc[row - 1], trials.iloc[row]
        raise SourceError(
            f"{second['place']}: '{second['value']}' begins at {second['onset_s']:g} s, as '{first['value']}' of line "
            f"{_line(first['place'])} does; remove one of the two, name one in source.ignore, or set source.same_onset "
            "to allow"
        )


def _line(place: str) -> str:
    return place.rpartition(" ")[2]


def _named(value: str, place: str, config: EventsConfig) -> str:
    column = config.stimulus_column
    if is_missing(value):
        raise SourceError(
            f"{place}: {column} is '{value}'; name the stimulus there, or put '{value}' into source.ignore if this "
            "event shows none"
        )
    if column == FILE_COLUMN:
        check_inside(value, column, "stimuli", place)
    name = stimulus_name(value, column)
    if not name:
        raise SourceError(f"{place}: {column} '{value}' makes no name for a stimulus; use letters and digits in it")
    return name
