"""Tables that sources read: CSV files with declared columns, and what stimuli and trials must satisfy together."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from core.config import nearest
from core.errors import SourceError, SourceMissing
from feature_store.sources.base import SPLITS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A stimulus's name becomes a file's name."""


def read_csv(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file as text columns.

    Raises
    ------
    SourceMissing, SourceError
        The file is absent, cannot be parsed, or lacks a column.
    """
    if not path.is_file():
        raise SourceMissing(f"{path}: no such table; expected a CSV file with the columns {', '.join(required)}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: not a CSV table ({str(error).splitlines()[0]}); save it as UTF-8 CSV") from error
    for column in required:
        if column not in table.columns:
            raise SourceError(f"{path}: lacks the column '{column}'{nearest(column, list(table.columns))}")
    return table


def check_stimuli(stimuli: pd.DataFrame, where: Path) -> None:
    """Raise `SourceError` unless every stimulus is there once, in one known split, and training has some."""
    for name in stimuli["stimulus"]:
        if not NAME.fullmatch(name):
            raise SourceError(
                f"{where}: stimulus '{name}' cannot name a file; use letters, digits, '.', '_' and '-', and begin with "
                "a letter or a digit"
            )
    for row, split in enumerate(stimuli["split"]):
        if split not in SPLITS:
            name = stimuli["stimulus"].iloc[row]
            raise SourceError(f"{where}: stimulus '{name}' has the split '{split}'; expected train or test")
    twice = stimuli["stimulus"][stimuli["stimulus"].duplicated()]
    if len(twice):
        name = twice.iloc[0]
        splits = sorted(set(stimuli.loc[stimuli["stimulus"] == name, "split"]))
        fault = "is in training and in test" if len(splits) > 1 else f"is listed twice in {splits[0]}"
        raise SourceError(f"{where}: stimulus '{name}' {fault}; each stimulus belongs into one split, once")
    for split in SPLITS:
        if not (stimuli["split"] == split).any():
            raise SourceError(f"{where}: no stimulus has the split '{split}'; both train and test are needed")
    if "file" in stimuli:
        _check_files(stimuli, where)


def _check_files(stimuli: pd.DataFrame, where: Path) -> None:
    named = stimuli[stimuli["file"].fillna("") != ""]
    shared = set(named.loc[named["split"] == "train", "file"]) & set(named.loc[named["split"] == "test", "file"])
    if shared:
        raise SourceError(
            f"{where}: the file '{min(shared)}' is in training and in test; a clip belongs into one split"
        )


def check_trials(trials: pd.DataFrame, stimuli: pd.DataFrame, where: Path) -> None:
    """Raise `SourceError` unless every trial shows a known stimulus and no repetition occurs twice."""
    known = set(stimuli["stimulus"])
    for name in trials["stimulus"]:
        if name not in known:
            raise SourceError(f"{where}: stimulus '{name}' is not in the stimulus table{nearest(name, sorted(known))}")
    twice = trials[trials.duplicated(["stimulus", "repetition"])]
    if len(twice):
        name, repetition = twice.iloc[0][["stimulus", "repetition"]]
        raise SourceError(
            f"{where}: stimulus '{name}' has repetition {repetition} twice; number the repetitions 0, 1, …"
        )
    for split in SPLITS:
        seen = set(stimuli.loc[stimuli["split"] == split, "stimulus"])
        if not trials["stimulus"].isin(seen).any():
            raise SourceError(f"{where}: no trial shows a {split} stimulus; a subject needs trials of both splits")
