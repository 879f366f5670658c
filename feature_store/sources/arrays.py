"""Bring your own data: a folder of numpy arrays and CSV tables.

The folder holds `stimuli.csv` (stimulus_id, split, file, caption; file and caption may be empty; group is optional),
`stimuli/` with the files it names, and per subject a folder with `responses.npy` (trial × voxel), `trials.csv`
(stimulus_id, repetition, session?, run?) and optionally `voxels.csv` (roi, …) and `unlabelled.npy` (row × voxel:
responses to no stimulus, such as rest). `targets/NAME.npy` holds embeddings made elsewhere, rows in the order of
`stimuli.csv`.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.clips import Clip, ClipConfig, read_clip
from core.config import Config, nearest
from core.errors import SourceError, SourceMissing
from feature_store.sources.base import (
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

MEASURES = ("ncsnr_train_published", "ncsnr_test_published", "x", "y", "z")
"""Columns of `voxels.csv` that hold numbers, some of which may be missing."""
INDICES = ("i", "j", "k")
"""Columns of `voxels.csv` that hold indices into a volume."""
UNLABELLED = "unlabelled.npy"
"""Responses to no stimulus, where a subject has any."""


class ArraysConfig(Config):
    """Where the folder lies, and which of its subjects belong to the study."""

    kind: Literal["arrays"] = "arrays"
    path: str
    subjects: list[str] | None = Field(None, min_length=1)

    @property
    def named_subjects(self) -> list[str] | None:
        """The subjects that the config names, or None where it takes all that are there."""
        return self.subjects

    def build(self, root: Path) -> "Arrays":
        """Return the source; a relative path starts at `root`."""
        return Arrays(root / self.path, self.subjects)


class Arrays:
    """A folder of numpy arrays and CSV tables; see the module's description."""

    def __init__(self, path: Path, subjects: list[str] | None = None) -> None:
        self.path = path
        self._wanted = subjects

    @property
    def subjects(self) -> list[str]:
        """Return the folders that hold a `responses.npy`, or those that the config names."""
        if not self.path.is_dir():
            raise SourceMissing(f"{self.path}: no such folder; set source.path to the folder with stimuli.csv")
        there = sorted(file.parent.name for file in self.path.glob("*/responses.npy"))
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
        table = _read_named(where, "split")
        check_stimuli(table, where)
        captions = table["caption"] if "caption" in table else [""] * len(table)
        table["caption"] = pd.Series([[text] if text else [] for text in captions], dtype=object)
        table = table.assign(file=table.get("file", ""))
        for name in table["file"]:
            check_inside(name, "file", "stimuli", where)
        return table[[name for name in ("stimulus", "split", "caption", "group", "file") if name in table]]

    def responses(self, subject: str) -> Recording:
        """Return one subject's responses, memory-mapped."""
        folder = self.path / subject
        values = _load(folder / "responses.npy")
        where = folder / "trials.csv"
        trials = _read_named(where, "repetition")
        check_kept(trials, where)
        trials["repetition"] = whole_numbers(trials["repetition"], where)
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
        rows: dict[Split, Rows] = {s: SelectedRows(values, np.flatnonzero(splits == s)) for s in SPLITS}
        tables: dict[Split, pd.DataFrame] = {s: trials[splits == s].reset_index(drop=True) for s in SPLITS}
        voxels = self._voxels(folder, values.shape[-1])
        return Recording(subject, rows, tables, voxels, unlabelled=_unlabelled(folder, values.shape))

    def response_files(self, subject: str) -> list[Path]:
        """Return the files of one subject, and the stimulus table."""
        folder = self.path / subject
        files = [folder / name for name in ("responses.npy", "trials.csv", "voxels.csv", UNLABELLED)]
        return [file for file in [*files, self.path / "stimuli.csv"] if file.is_file()]

    def stimulus_files(self) -> list[Path]:
        """Return the stimulus table, the clips and the embeddings made elsewhere."""
        named = [self.path / "stimuli" / name for name in self.stimuli()["file"] if name]
        return [self.path / "stimuli.csv", *named, *sorted((self.path / "targets").glob("*.npy"))]

    def clip(self, stimulus: str, config: ClipConfig) -> Clip | None:
        """Return a stimulus's clip, or None where `stimuli.csv` names no file."""
        name = self._files[stimulus]
        return read_clip(self.path / "stimuli" / name, config) if name else None

    def target(self, name: str) -> NDArray[Any] | None:
        """Return `targets/NAME.npy`, memory-mapped, or None where there is no such file."""
        file = self.path / "targets" / f"{name}.npy"
        if not file.is_file():
            return None
        values = _load(file)
        expected = len(self.stimuli())
        if values.ndim < 2 or len(values) != expected:
            raise SourceError(f"{file}: has the shape {values.shape}; expected {expected} rows, as in stimuli.csv")
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


def _read_named(where: Path, column: str) -> pd.DataFrame:
    """Read a table of `stimulus_id` and another column; the first is called stimulus from here on."""
    table = read_csv(where, ["stimulus_id", column])
    if "stimulus" in table:
        raise SourceError(f"{where}: has both stimulus and stimulus_id; keep one, under the name stimulus_id")
    return table.rename(columns={"stimulus_id": "stimulus"})
