"""The head's motion during each trial, from the confounds beside a run: what the control `nuisance` predicts from."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import SourceError
from feature_store.sources.base import MOTION_COLUMNS
from feature_store.sources.timeseries import Timing
from feature_store.sources.tsv import read_tsv

AFTER_S = 8.0
"""How long after an event's end volumes count, in seconds: until the response to it has passed its peak."""


def motion_of_trials(
    scanned: Sequence[tuple[Path | None, Timing]], runs: Iterable[int], trials: pd.DataFrame
) -> pd.DataFrame:
    """Return the head's mean motion from each trial's onset until `AFTER_S` after its end, a column for each measure.

    Measures are those of `MOTION_COLUMNS` that every run has. Where a run has no confounds of its volumes, no motion is
    known, and the table has no column: nothing but a control reads it.

    Parameters
    ----------
    scanned : each run's confounds, and when its volumes were taken
    runs : (trial,) the run that each trial lies in
    trials : columns ``onset_s`` and ``duration_s``, which may be NaN
    """
    known = [_read(path, timing.volumes) for path, timing in scanned]
    measured = [table for table in known if table is not None]
    if not measured or len(measured) < len(known):
        return pd.DataFrame(index=trials.index)
    names = [name for name in MOTION_COLUMNS if all(name in table for table in measured)]
    values = np.full((len(trials), len(names)), np.nan)
    onsets = trials["onset_s"].to_numpy(np.float64)
    ends = onsets + np.nan_to_num(trials["duration_s"].to_numpy(np.float64)) + AFTER_S
    for row, run in enumerate(runs):
        taken = scanned[run][1].times_s
        during = np.flatnonzero((taken >= onsets[row]) & (taken <= ends[row]))
        if len(during):
            values[row] = measured[run][names].iloc[during].mean()
    return pd.DataFrame(values, columns=names, index=trials.index)


def _read(path: Path | None, volumes: int) -> pd.DataFrame | None:
    """Return a run's measures of motion, as numbers, or None where there are none of its volumes."""
    if path is None or not path.is_file():
        return None
    try:
        table = read_tsv(path, [])
    except SourceError:
        return None
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in MOTION_COLUMNS if name in table}
    return pd.DataFrame(numbers) if numbers and len(table) == volumes else None
