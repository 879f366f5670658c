"""What a source of recordings is: a dataset on disk, read as stimuli, responses and, where it has them, clips.

And what sources check alike: files that must be there, names that must stay inside a folder, CSV tables with declared
columns, and what stimuli and trials must satisfy together.
"""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.clips import Clip, ClipConfig
from core.config import nearest
from core.errors import SourceError, SourceMissing
from feature_store.schema import fault_of_columns

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

STIMULUS_COLUMNS = ("stimulus", "split", "caption")
TRIAL_COLUMNS = ("stimulus", "repetition")
MOTION_COLUMNS = (
    "framewise_displacement", "rmsd", "dvars", "std_dvars", "trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z",
)  # fmt: skip
"""Columns of trials that hold the head's motion during each, by fMRIPrep's names, where a source knows it."""
ROI_SEPARATOR = "+"
"""Between the names of a voxel's regions, where it lies in several: ``"lLOC+lEBA"``."""
NO_ROI = "none"
"""The ROI of a voxel that lies in no region."""
WINDOW_VOLUMES = "volumes_in_window"
"""The attribute that says how many volumes of BOLD each trial's window holds, where trials are windows."""


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A stimulus's name becomes a file's name."""
NO_NUMBER = ("", "n/a", "na", "nan")
"""How tables write a number that is missing."""


class Rows(Protocol):
    """Rows read in slices, so that a recording may be larger than memory; numpy arrays and memmaps are such."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(trial, voxel) for betas, (trial, time, voxel) for BOLD windows."""
        ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Return some trials."""
        ...


@dataclass(frozen=True)
class Recording:
    """One subject's responses, raw: normalisation happens at training, from the training rows.

    Attributes
    ----------
    subject : str
        For example ``"sub-01"``.
    values : responses per split, rows in the order of `trials`; large ones are read when they are first asked for, and
        the caller that writes them drops a split's rows from this dictionary before it asks for the next
    trials : table per split with the columns `TRIAL_COLUMNS` (repetition counts from 0), and where they are known
        session, task, run, ``onset_s`` and ``duration_s``: see `feature_store.times`
    voxels : table with one row per voxel in the order of the values' last axis, ROI by ROI; column ``roi`` at least
        (see `ROI_SEPARATOR` and `NO_ROI`), and what the dataset knows of these: ``hemisphere`` ("l", "r" or ""), ``i``,
        ``j``, ``k`` (voxel indices), ``x``, ``y``, ``z`` (mm), ``ncsnr_train_published``, ``ncsnr_test_published``
    attributes : what else is known of the recording, JSON without absolute paths: ``space``, ``tr_s``, ``affine``, …
    unlabelled : (row, voxel), or (row, time, voxel) where `values` have time: responses without a stimulus, of rest or
        other studies; the same voxels in the same order, or None
    """

    subject: str
    values: dict[Split, Rows]
    trials: dict[Split, pd.DataFrame]
    voxels: pd.DataFrame
    attributes: dict[str, Any] = field(default_factory=dict)
    unlabelled: Rows | None = None


@dataclass(frozen=True)
class RecordingShape:
    """What one subject's `Recording` holds, without its values.

    The table is what is known of the voxels, without what ingest measures.
    """

    subject: str
    trials: dict[Split, pd.DataFrame]
    voxels: int
    table: pd.DataFrame
    times: int | None = None
    """Volumes of a trial's window, None for betas."""
    unlabelled: int = 0
    """Rows without a stimulus."""
    window: int | None = None
    """Volumes that each trial's window holds, whether they are kept (`times`) or averaged; None for betas."""

    @classmethod
    def of(cls, recording: Recording) -> "RecordingShape":
        """Return the shape of a recording; its values are not read where they are lazy."""
        shape = recording.values["train"].shape
        rows = 0 if recording.unlabelled is None else recording.unlabelled.shape[0]
        times = shape[1] if len(shape) == 3 else None
        window = recording.attributes.get(WINDOW_VOLUMES, times)
        return cls(recording.subject, recording.trials, shape[-1], recording.voxels, times, rows, window)

    @classmethod
    def declared(
        cls, subject: str, trials: dict[Split, pd.DataFrame], voxels: int, times: int | None = None, unlabelled: int = 0
    ) -> "RecordingShape":
        """Return a shape whose voxels are known by number alone, with a table of the columns that most have."""
        roi = pd.Series(["lIPS1-2-3"] * voxels, dtype=object)
        table = pd.DataFrame({"roi": roi, "hemisphere": "l", "index": np.arange(voxels)})
        return cls(subject, trials, voxels, table, times, unlabelled, times)

    def rows(self, split: Split) -> int:
        """Trials of a split."""
        return len(self.trials[split])


@dataclass(frozen=True)
class Declared:
    """What a dataset declares of itself, so that it is known before it is here; captions are as long as the longest."""

    subjects: tuple[RecordingShape, ...]
    stimuli: pd.DataFrame


@runtime_checkable
class Declares(Protocol):
    """A source's config that knows what its dataset holds before it is here; `brain2video plan` goes by it."""

    def declared(self) -> Declared | None:
        """Return what the dataset is known to hold; None where the settings leave it open."""
        ...


def declared_trials(stimuli: list[str], repeats: int) -> pd.DataFrame:
    """Return the trials of stimuli that were each shown so often."""
    names, repetitions = np.repeat(stimuli, repeats).astype(object), np.tile(np.arange(repeats), len(stimuli))
    return pd.DataFrame({"stimulus": names, "repetition": repetitions})


class Source(Protocol):
    """A dataset on disk; reading raises `SourceError` where it differs from what the source declares."""

    @property
    def subjects(self) -> list[str]:
        """The subjects that the config names, or all that are there."""
        ...

    def stimuli(self) -> pd.DataFrame:
        """Return the stimuli: columns `STIMULUS_COLUMNS`, and ``group`` where stimuli belong to classes.

        Clips of a movie have its name in ``segment`` and their place in ``start_s``: see `feature_store.times`.

        ``caption`` holds a list of strings, empty where there is none.
        """
        ...

    def responses(self, subject: str) -> Recording:
        """Return one subject's responses."""
        ...

    def response_files(self, subject: str) -> list[Path]:
        """Return every file that `responses` reads for a subject; a store's fingerprint covers them."""
        ...

    def stimulus_files(self) -> list[Path]:
        """Return every file that `stimuli` and `clip` read; a store's fingerprint covers them."""
        ...

    def clip(self, stimulus: str, config: ClipConfig) -> Clip | None:
        """Return what was shown, or None where the dataset has no clip for this stimulus."""
        ...

    def target(self, name: str) -> NDArray[Any] | None:
        """Return embeddings made elsewhere, rows in the order of `stimuli`, or None where there are none so named."""
        del name
        return None


def present(path: Path, remedy: str, *, or_run: str = "") -> Path:
    """Return the path of a file that is there.

    Raises `SourceMissing` where it is absent (`remedy` says what to do), or is a link whose content was not fetched
    (`or_run` is a command that fetches it as well as datalad does).
    """
    if path.is_symlink() and not path.exists():
        other = f" or '{or_run}'" if or_run else ""
        raise SourceMissing(f"{path}: a link without its content (git-annex); run 'datalad get {path}'{other}")
    if not path.is_file():
        raise SourceMissing(f"{path}: no such file; {remedy}")
    return path


def stays_inside(name: str) -> bool:
    """Return whether a relative name cannot lead out of the folder it is joined to, on any system."""
    windows = PureWindowsPath(name)  # which takes both kinds of slashes for separators
    return not (PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts)


def check_inside(name: str, column: str, folder: str, where: object) -> None:
    """Raise `SourceError` where a name in a table's column leads out of the folder that it is relative to."""
    if not stays_inside(name):
        raise SourceError(
            f"{where}: {column} '{name}' leads out of the folder {folder}/; name a file inside it, without '..' and "
            "without a drive or '/' in front"
        )


def read_csv(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file as text columns; a cell that is absent at a row's end is empty.

    Raises `SourceError` where it is absent, cannot be parsed, or lacks a column, or a column has no name or another's.
    """
    if not path.is_file():
        raise SourceMissing(f"{path}: no such table; expected a CSV file with the columns {', '.join(required)}")
    try:
        # The header is read as a row: pandas would make up names, and an index where rows are longer than the header.
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, header=None, encoding="utf-8-sig").fillna("")
    except (ValueError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: not a CSV table ({str(error).splitlines()[0]}); save it as UTF-8 CSV") from error
    table, names = rows.iloc[1:].reset_index(drop=True), rows.iloc[0].tolist()
    for number, name in enumerate(names, start=1):
        if not name or name in names[: number - 1]:
            fault = f"the name '{name}', as one before it has" if name else "no name"
            raise SourceError(f"{path}: column {number} has {fault}; name it otherwise, or remove it")
    table.columns = pd.Index(names)
    for column in required:
        if column not in names:
            raise SourceError(f"{path}: lacks the column '{column}'{nearest(column, names)}")
    return table


def check_kept(table: pd.DataFrame, where: Path) -> None:
    """Raise `SourceError` unless a store can keep all columns of a table; their names become those of folders."""
    if fault := fault_of_columns(list(table.columns)):
        raise SourceError(f"{where}: {fault}")


def whole_numbers(column: pd.Series, where: Path) -> pd.Series:
    """Return a column of text as numbers from 0 to 2³¹ - 1, or raise `SourceError` for the first that is none."""
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    wrong = ~((numbers >= 0) & (numbers < 2**31) & (numbers % 1 == 0))
    for row in np.flatnonzero(wrong):
        raise SourceError(
            f"{where} row {row + 1}: {column.name} '{column.iloc[row]}' is not a whole number; expected 0, 1, …"
        )
    return numbers.astype("int64")


def numbers_or_nan(column: pd.Series, where: Path) -> pd.Series:
    """Return a column of text as numbers, NaN where it is empty or n/a, or raise `SourceError` for any other."""
    missing = column.str.strip().str.lower().isin(NO_NUMBER)
    numbers = pd.to_numeric(column.mask(missing), errors="coerce").astype("float64")
    for row in np.flatnonzero(~np.isfinite(numbers) & ~missing):
        raise SourceError(
            f"{where} row {row + 1}: {column.name} '{column.iloc[row]}' is no number; fix it, or leave it empty"
        )
    return numbers


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
    files = stimuli["file"].fillna("")
    named = stimuli.assign(path=[posixpath.normpath(name.replace("\\", "/")) for name in files])[files != ""]
    test = named[named["split"] == "test"]
    shared = test[test["path"].isin(named.loc[named["split"] == "train", "path"])]
    if len(shared):
        raise SourceError(
            f"{where}: the file '{shared['path'].min()}' is in training and in test; a clip belongs into one split"
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
