"""Reads the confounds beside a run: those that a GLM takes out, and the head's motion during each trial.

What the control `nuisance` predicts from is that motion.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SourceError, SourceMissing
from core.progress import report
from feature_store.cells import missing
from feature_store.sources.base import MOTION_COLUMNS, present
from feature_store.sources.timeseries import Timing
from feature_store.sources.tsv import hint, read_tsv

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
    table = read_tsv(path, [])
    numbers = {name: _numbers(table[name], path) for name in MOTION_COLUMNS if name in table}
    if numbers and len(table) != volumes:
        report(f"{path.name}: {len(table)} rows for {volumes} volumes, so the head's motion is not known", 1, 1)
    return pd.DataFrame(numbers) if numbers and len(table) == volumes else None


def read_confounds(path: Path | None, patterns: Sequence[str], *, volumes: int, image: Path) -> NDArray[np.float64]:
    """Read those columns of a run's confounds whose names match a pattern: (volumes, confound).

    A missing value in the first row is 0, as derivatives have none there. The image is for messages.

    Raises
    ------
    SourceMissing, SourceError
        There is no table, it lacks a column or rows, or a value is no number.
    """
    if not patterns:
        return np.zeros((volumes, 0))
    if path is None:
        raise SourceMissing(
            f"{image}: no *_desc-confounds_timeseries.tsv beside it, and source.response.confounds asks for "
            f"'{patterns[0]}'; set source.derivatives to fMRIPrep's output, or drop the confounds"
        )
    table = read_tsv(present(path, "run fMRIPrep again"), [])
    columns: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in table.columns if fnmatchcase(name, pattern)]
        if not matching:
            raise SourceError(f"{path}: no confound matches '{pattern}'{hint(pattern, list(table.columns))}")
        columns.update(dict.fromkeys(matching))
    if len(table) != volumes:
        raise SourceError(
            f"{path}: has {len(table)} rows, {image.name} has {volumes} volumes; they must be equal; take both "
            "from one run of the preprocessing"
        )
    return np.column_stack([_confound(table[name], path) for name in columns])


def _confound(column: "pd.Series[Any]", path: Path) -> NDArray[np.float64]:
    numbers = _numbers(column, path)
    if np.isnan(numbers[0]):
        numbers[0] = 0
    for row in np.flatnonzero(np.isnan(numbers)):
        raise SourceError(
            f"{_place(column, path, row)} is '{column.iloc[row]}', no number; only the first row may lack one; drop "
            "this confound"
        )
    return numbers


def _numbers(column: "pd.Series[Any]", path: Path) -> NDArray[np.float64]:
    """Return a column as numbers, NaN where one is missing; raises `SourceError` for anything else."""
    lacking = missing(column)
    numbers = pd.to_numeric(column.mask(lacking), errors="coerce").to_numpy(np.float64, copy=True)
    for row in np.flatnonzero(~np.isfinite(numbers) & ~lacking.to_numpy()):
        raise SourceError(
            f"{_place(column, path, row)} is '{column.iloc[row]}', no finite number; fix it, or "
            "run the preprocessing again"
        )
    return numbers


def _place(column: "pd.Series[Any]", path: Path, row: np.signedinteger[Any]) -> str:
    return f"{path} line {int(column.index.to_numpy()[row]) + 2}: {column.name}"
