"""Bring your own data: a folder of numpy arrays and CSV tables.

The folder holds `stimuli.csv` (stimulus_id, split, file, caption; file and caption may be empty; group is optional, and
so are segment, start_s and duration_s, the place of a clip in its movie), `stimuli/` with the files it names, and per
subject a folder with `responses.npy` (trial × voxel), `trials.csv` (stimulus_id, repetition, session?, run?, onset_s?,
duration_s?) and optionally `voxels.csv` (roi, …) and `unlabelled.npy` (row × voxel:
responses to no stimulus, such as rest). `targets/NAME.npy` holds embeddings made elsewhere, rows in the order of
`stimuli.csv`.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from core.clips import Clip, ClipConfig, read_clip
from core.config import Config, nearest
from core.errors import SourceError, SourceMissing
from feature_store.cells import NAMELESS, is_missing, missing
from feature_store.sources.base import (
    NO_ROI,
    SPLITS,
    Recording,
    Rows,
    Split,
    check_inside,
    check_kept,
    check_stimuli,
    check_trials,
    numbers_or_nan,
    read_csv,
    whole_numbers,
)
from feature_store.sources.splits import OF_TIME, SplitConfig, drawn, in_test, kept_trials, split_of_stimuli
from feature_store.times import PLACE

MEASURES = ("ncsnr_train_published", "ncsnr_test_published", "x", "y", "z")
"""Columns of `voxels.csv` that hold numbers, some of which may be missing."""
INDICES = ("i", "j", "k")
"""Columns of `voxels.csv` that hold indices into a volume."""
SECONDS = ("onset_s", "start_s", "duration_s")
"""Columns of `trials.csv` and `stimuli.csv` that hold seconds, some of which may be missing."""
UNLABELLED = "unlabelled.npy"
"""Responses to no stimulus, where a subject has any."""


class ArraysConfig(Config):
    """Where the folder lies, and which of its subjects belong to the study."""

    kind: Literal["arrays"] = "arrays"
    path: str
    subjects: list[str] | None = Field(None, min_length=1)
    split: SplitConfig | None = None
    """How stimuli are dealt into training and test; by default the column ``split`` of `stimuli.csv` says it."""

    @model_validator(mode="after")
    def _knows_no_tasks(self) -> Self:
        if self.split is not None and self.split.by == "task":
            raise ValueError(
                "split: the source 'arrays' knows no tasks; split by stimulus, column, run, segment or block"
            )
        return self

    @property
    def named_subjects(self) -> list[str] | None:
        """The subjects that the config names, or None where it takes all that are there."""
        return self.subjects

    def build(self, root: Path) -> "Arrays":
        """Return the source; a relative path starts at `root`."""
        return Arrays(root / self.path, self.subjects, self.split)


class Arrays:
    """A folder of numpy arrays and CSV tables; see the module's description."""

    def __init__(self, path: Path, subjects: list[str] | None = None, split: SplitConfig | None = None) -> None:
        self.path = path
        self._wanted = subjects
        self._split = split

    @property
    def subjects(self) -> list[str]:
        """Return the folders that hold a `responses.npy`, or those that the config names."""
        if not self.path.is_dir():
            raise SourceMissing(f"{self.path}: no such folder; set source.path to the folder with stimuli.csv")
        there = sorted(file.parent.name for file in self.path.glob("[!.]*/responses.npy"))
        for name in self._wanted or []:
            if name not in there:
                raise SourceMissing(f"{self.path}/{name}: has no responses.npy{nearest(name, there)}")
        if not there:
            raise SourceMissing(f"{self.path}: no subject; expected a folder such as sub-01 with responses.npy")
        return self._wanted or there

    def stimuli(self) -> pd.DataFrame:
        """Return the stimuli in the order of `stimuli.csv`."""
        return self._stimuli.copy()

    @cached_property
    def _stimuli(self) -> pd.DataFrame:
        if not self.path.is_dir():
            raise SourceMissing(f"{self.path}: no such folder; set source.path to the folder with stimuli.csv")
        where = self.path / "stimuli.csv"
        table = _with_seconds(_read_named(where, *([] if self._split else ["split"])), where)
        table = _with_groups(table, where).assign(file=_without_missing(table, "file", ""))
        if self._split is not None:
            table["split"] = self._splits(table, self._split, where)
        check_stimuli(table, where)
        captions = table["caption"] if "caption" in table else [""] * len(table)
        table["caption"] = pd.Series([[] if is_missing(text) else [text] for text in captions], dtype=object)
        for name in table["file"]:
            check_inside(name, "file", "stimuli", where)
        return table[[name for name in ("stimulus", "split", "caption", "group", *PLACE, "file") if name in table]]

    def _splits(self, stimuli: pd.DataFrame, split: SplitConfig, where: Path) -> list[str]:
        """Return the split of every stimulus, as `source.split` says it."""
        names = list(stimuli["stimulus"])
        if split.by in OF_TIME:
            trials = pd.concat([self._trials(subject) for subject in self.subjects], ignore_index=True)
            trials = trials.drop(columns=[name for name in ("segment", "start_s") if name in trials])
            known = [name for name in ("segment", "start_s") if name in stimuli]
            trials = trials.merge(stimuli[["stimulus", *known]], on="stimulus", how="left") if known else trials
            out = in_test(split, trials, where.parent)
            dealt = split_of_stimuli(names, list(trials["stimulus"]), out, split.by, where.parent)
            return [dealt[name] for name in names]
        column = split.column or "stimulus"
        if column not in stimuli:
            raise SourceError(f"{where}: lacks the column '{column}'{nearest(column, list(map(str, stimuli)))}")
        known = sorted(set(map(str, stimuli[column])))
        test = split.test if isinstance(split.test, list) else drawn(split, known, where)
        for name in test:
            if name not in known:
                raise SourceError(f"{where}: source.split.test names '{name}', not in {column}{nearest(name, known)}")
        for row in np.flatnonzero(missing(stimuli[column]) & ~stimuli[column].isin(test)):
            if split.column:
                found = stimuli[column].iloc[row]
                raise SourceError(
                    f"{where} row {row + 1}: {column} is '{found}'; the split is by this column, so give it a value"
                )
        return ["test" if name in test else "train" for name in stimuli[column]]

    def _trials(self, subject: str) -> pd.DataFrame:
        where = self.path / subject / "trials.csv"
        trials = _with_seconds(_read_named(where, "repetition"), where)
        check_kept(trials, where)
        trials["repetition"] = whole_numbers(trials["repetition"], where)
        return trials

    def responses(self, subject: str) -> Recording:
        """Return one subject's responses, memory-mapped."""
        folder = self.path / subject
        values = _load(folder / "responses.npy")
        where = folder / "trials.csv"
        trials = self._trials(subject)
        if values.ndim not in (2, 3) or len(trials) != len(values):
            raise SourceError(
                f"{folder}: responses.npy has the shape {values.shape} and trials.csv {len(trials)} rows; "
                "expected (trial, voxel) or (trial, time, voxel) with one row per trial"
            )
        if 0 in values.shape:
            raise SourceError(
                f"{folder / 'responses.npy'}: has the shape {values.shape} and holds no value; expected (trial, voxel) "
                "or (trial, time, voxel) with one voxel at least; save it again"
            )
        stimuli = self.stimuli()
        check_trials(trials, stimuli, where)
        split_of = dict(zip(stimuli["stimulus"], stimuli["split"], strict=True))
        splits = trials["stimulus"].map(split_of)
        of_split: dict[Split, NDArray[np.int64]] = {s: np.flatnonzero(splits == s) for s in SPLITS}
        shown: dict[Split, pd.DataFrame] = {s: trials.iloc[chosen] for s, chosen in of_split.items()}
        kept, purged = kept_trials(shown, stimuli, self._split.purge_s if self._split else 0.0, subject, where)
        of_split["train"] = of_split["train"][kept]
        rows: dict[Split, Rows] = {s: SelectedRows(values, chosen) for s, chosen in of_split.items()}
        tables = {s: trials.iloc[chosen].reset_index(drop=True) for s, chosen in of_split.items()}
        voxels = self._voxels(folder, values.shape[-1])
        return Recording(subject, rows, tables, voxels, purged, unlabelled=_unlabelled(folder, values.shape))

    def recordings(self, subject: str) -> list[Path]:
        """Return the file of one subject's responses."""
        return [self.path / subject / "responses.npy"]

    def response_files(self, subject: str) -> list[Path]:
        """Return the files of one subject, and the stimulus table."""
        folder = self.path / subject
        files = [folder / name for name in ("responses.npy", "trials.csv", "voxels.csv", UNLABELLED)]
        files += [file for file in self._split_files() if file not in files]
        return [file for file in [*files, self.path / "stimuli.csv"] if file.is_file()]

    def _split_files(self) -> list[Path]:
        """Return the tables of trials that decide on the split, where time does."""
        by_time = self._split is not None and self._split.by in OF_TIME
        return [self.path / subject / "trials.csv" for subject in self.subjects] if by_time else []

    def stimulus_files(self) -> list[Path]:
        """Return the stimulus table, the clips and the embeddings made elsewhere."""
        named = [self.path / "stimuli" / name for name in self.stimuli()["file"] if name]
        tables = [self.path / "stimuli.csv", *self._split_files()]
        return [*tables, *named, *sorted((self.path / "targets").glob("[!.]*.npy"))]

    def clip(self, stimulus: str, config: ClipConfig) -> Clip | None:
        """Return a stimulus's clip, or None where `stimuli.csv` names no file."""
        name = self._files[stimulus]
        return read_clip(self.path / "stimuli" / name, config) if name else None

    def target(self, name: str) -> NDArray[Any] | None:
        """Return `targets/NAME.npy`, memory-mapped, or None where there is no such file."""
        check_inside(name, "the file", "targets", "targets")
        file = self.path / "targets" / f"{name}.npy"
        if not file.is_file():
            return None
        values = _load(file)
        expected = len(self.stimuli())
        if values.ndim < 2 or len(values) != expected or not values.size:
            raise SourceError(
                f"{file}: has the shape {values.shape}; expected (stimulus, value, …) with {expected} rows, as in "
                "stimuli.csv, and one value at least; save it again"
            )
        return values

    @cached_property
    def _files(self) -> dict[str, str]:
        return dict(zip(self._stimuli["stimulus"], self._stimuli["file"], strict=True))

    @staticmethod
    def _voxels(folder: Path, count: int) -> pd.DataFrame:
        where = folder / "voxels.csv"
        if not where.is_file():
            return pd.DataFrame({"roi": ["all"] * count})
        voxels = read_csv(where, ["roi"])
        voxels = voxels.assign(roi=_without_missing(voxels, "roi", NO_ROI))
        check_kept(voxels, where)
        if len(voxels) != count:
            raise SourceError(f"{where}: has {len(voxels)} rows; responses.npy has {count} voxels; they must be equal")
        numbers = {name: numbers_or_nan(voxels[name], where) for name in MEASURES if name in voxels}
        indices = {name: whole_numbers(voxels[name], where) for name in INDICES if name in voxels}
        return voxels.assign(**numbers, **indices)


class SelectedRows:
    """Some rows of an array, read when they are asked for."""

    def __init__(self, values: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._values = values
        self._rows = rows
        self.shape = (len(rows), *values.shape[1:])

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return np.asarray(self._values[self._rows[rows]])


def _unlabelled(folder: Path, responses: tuple[int, ...]) -> NDArray[Any] | None:
    """Return a subject's `UNLABELLED` responses, memory-mapped; all axes but the first are those of `responses.npy`."""
    file = folder / UNLABELLED
    if not file.is_file():
        return None
    values = _load(file)
    if values.shape[1:] != responses[1:] or values.ndim != len(responses) or not len(values):
        expected = ", ".join(["row", *map(str, responses[1:])])
        raise SourceError(
            f"{file}: has the shape {values.shape}; expected ({expected}) with one row at least, as responses.npy has "
            f"the shape {responses}; save it with the same voxels, or remove it"
        )
    return values


def _load(file: Path) -> NDArray[Any]:
    if not file.is_file():
        raise SourceMissing(f"{file}: no such file; expected a numpy array")
    try:
        values: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise SourceError(f"{file}: not a plain numpy array ({str(error).splitlines()[0]}); save it again") from error
    if values.dtype.kind not in "fiu":
        raise SourceError(f"{file}: holds {values.dtype}; expected real numbers")
    return values


def _with_seconds(table: pd.DataFrame, where: Path) -> pd.DataFrame:
    """Return a table whose columns of seconds are numbers, NaN where one is missing."""
    return table.assign(**{name: numbers_or_nan(table[name], where) for name in SECONDS if name in table})


def _without_missing(table: pd.DataFrame, column: str, instead: str) -> "pd.Series[str] | str":
    """Return a column of text with `instead` where a value is missing, and `instead` alone where there is no column."""
    return table[column].mask(missing(table[column]), instead) if column in table else instead


def _with_groups(table: pd.DataFrame, where: Path) -> pd.DataFrame:
    """Return a table of stimuli whose classes are known for all or, without a column ``group``, for none."""
    if "group" not in table:
        return table
    lacking = missing(table["group"])
    if lacking.all():
        return table.drop(columns="group")
    for row in np.flatnonzero(lacking):
        raise SourceError(
            f"{where} row {row + 1}: group is '{table['group'].iloc[row]}'; name every stimulus's class, or none"
        )
    return table


def _read_named(where: Path, *columns: str) -> pd.DataFrame:
    """Read a table of `stimulus_id` and other columns; the first is called stimulus from here on."""
    table = read_csv(where, ["stimulus_id", *columns])
    if "stimulus" in table:
        raise SourceError(f"{where}: has both stimulus and stimulus_id; keep one, under the name stimulus_id")
    for row in np.flatnonzero(table["stimulus_id"].str.lower().isin(NAMELESS)):
        raise SourceError(
            f"{where} row {row + 1}: stimulus_id is '{table['stimulus_id'].iloc[row]}'; name the stimulus, or remove "
            "the row"
        )
    return table.rename(columns={"stimulus_id": "stimulus"})
