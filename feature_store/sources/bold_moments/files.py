"""What the readers of BOLD Moments share: a subject's files, their shapes, and rows that are read when asked for."""

import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray

from core.errors import SourceError
from core.files import require_space
from feature_store.sources.base import SPLITS, TRIAL_COLUMNS, Recording, Split
from feature_store.sources.bold_moments.dataset import BETAS_KEYS, BoldMomentsConfig, Counts
from feature_store.sources.pickles.unpickle import load_pickle

Floats = NDArray[np.float32]
Stored = NDArray[np.floating[Any]]
"""An array as files hold it: (stimulus, repetition, voxel)."""


class Reader(ABC):
    """Reads one kind of responses.

    Attributes
    ----------
    folder : where that kind's subjects lie
    """

    folder: Path

    def __init__(self, config: BoldMomentsConfig, path: Path, rois: tuple[str, ...]) -> None:
        self.config = config
        self.counts = config.counts
        self.published = config.counts == Counts()
        self.path = path
        self.rois = rois

    @abstractmethod
    def subjects(self) -> list[str]:
        """Return the subjects of whom there are responses, sorted."""

    @abstractmethod
    def responses(self, subject: str) -> Recording:
        """Return one subject's responses."""

    @abstractmethod
    def files(self, subject: str) -> list[Path]:
        """Return every file that `responses` reads for a subject."""

    def trials(self) -> dict[Split, pd.DataFrame]:
        """Return the trials of both splits: stimulus by stimulus, then by repetition."""
        return {split: self._trials(split) for split in SPLITS}

    def _trials(self, split: Split) -> pd.DataFrame:
        rows = [(s, r) for s in self.counts.stimuli(split) for r in range(self.counts.repeats(split))]
        return pd.DataFrame(rows, columns=list(TRIAL_COLUMNS))

    def there(self, relative: str) -> Path | None:
        """Return the path of an optional file, or None where it is absent or a link that was not fetched."""
        path = self.path / relative
        return path if path.is_file() else None

    def read_pair(self, path: Path, voxels: int | None) -> dict[Split, Stored]:
        """Read the form in which a region's responses are published: one array per split under `BETAS_KEYS`.

        Parameters
        ----------
        path : Path
        voxels : int, optional
            How many the arrays must have; those of the training array where that is not known.

        Raises
        ------
        SourceError
            The file is no such pair, or its shapes are not as declared, or none of its values is finite.
        """
        content = load_pickle(path)
        if not isinstance(content, dict) or (absent := [k for k in BETAS_KEYS.values() if k not in content]):
            found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            lacking = ", ".join(BETAS_KEYS.values() if not isinstance(content, dict) else absent)
            raise SourceError(f"{path}: lacks {lacking} (found: {found}); fetch the file again")
        arrays = {split: np.asarray(content[key]) for split, key in BETAS_KEYS.items()}
        if voxels is None:
            voxels = arrays["train"].shape[-1] if arrays["train"].ndim else 0
        for split, array in arrays.items():
            self.check_shape(path, split, array, voxels, BETAS_KEYS[split])
            check_finite(path, array, BETAS_KEYS[split])
        return arrays

    def check_shape(self, path: Path, split: Split, array: NDArray[Any], voxels: int, what: str) -> None:
        """Raise `SourceError` unless an array is (stimulus, repetition, voxel) as the counts say, of floats."""
        expected = (len(self.counts.stimuli(split)), self.counts.repeats(split), voxels)
        if array.shape != expected or array.dtype.kind != "f":
            raise SourceError(
                f"{path}: {what} has shape {array.shape} of {array.dtype}, expected {expected} of floats "
                "(stimulus, repetition, voxel); mend source.counts or fetch the file again"
            )


def check_finite(path: Path, array: Stored, what: str, columns: NDArray[np.int64] | None = None) -> None:
    """Raise `SourceError` where no value is finite; looks stimulus by stimulus and stops at the first that has one."""
    if not any(np.isfinite(one if columns is None else one[:, columns]).any() for one in array):
        raise SourceError(f"{path}: {what} holds no finite value, expected responses; fetch the file again")


def rows_of(array: Stored, start: int, stop: int, columns: NDArray[np.int64] | None = None) -> Stored:
    """Return some trials of an array (stimulus, repetition, voxel) as (trial, voxel); no other part of it is copied.

    What is returned may be a view of the array, in its own type.
    """
    repeats = array.shape[1]
    first = start // repeats
    part = array[first : -(-stop // repeats)]
    if columns is not None:
        part = part[:, :, columns]
    return part.reshape(-1, part.shape[-1])[start - first * repeats : stop - first * repeats]


def room_for(shape: tuple[int, ...]) -> Floats:
    """Return an array to fill: in memory, or in a nameless temporary file where it would take most of what is free.

    Raises
    ------
    NoSpace
        It fits neither into memory nor onto the disk of temporary files.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    if size <= psutil.virtual_memory().available // 2:
        return np.empty(shape, dtype=np.float32)
    require_space(Path(tempfile.gettempdir()), size)
    with tempfile.TemporaryFile() as file:  # the map keeps it until the array is dropped
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)


class LazyRows(ABC):
    """Rows of one split, read from disk when first asked for and kept until this object is dropped."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __getitem__(self, rows: slice) -> Floats:
        """Return some trials as float32."""
        wanted = range(self.shape[0])[rows]
        if not wanted:
            return np.empty((0, *self.shape[1:]), dtype=np.float32)
        start = min(wanted)
        block = self._block(start, max(wanted) + 1)
        return block if wanted.step == 1 else block[np.asarray(wanted) - start]

    @abstractmethod
    def _block(self, start: int, stop: int) -> Floats:
        """Return the trials from `start` up to `stop`."""


class StoredRows(LazyRows):
    """Rows of arrays as files hold them, side by side; only what is asked for becomes float32.

    Parameters
    ----------
    shape : (trial, voxel)
    arrays : each (stimulus, repetition, voxel), or what reads them
    columns : the voxels that are meant, where not all are
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        arrays: list[Stored] | Callable[[], list[Stored]],
        columns: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(shape)
        self._arrays = arrays
        self._columns = columns

    def _block(self, start: int, stop: int) -> Floats:
        if not isinstance(self._arrays, list):
            self._arrays = self._arrays()
        block, left = np.empty((stop - start, self.shape[1]), dtype=np.float32), 0
        for array in self._arrays:
            part = rows_of(array, start, stop, self._columns)
            block[:, left : left + part.shape[1]] = part
            left += part.shape[1]
        return block
