"""Rows that are chosen, averaged and joined but not yet read, for what memory would not hold.

A view is indexed along its first axis as an array is, and `np.asarray` reads all of it. `loaded` reads a view at once
where it is small beside the memory that is free, which is the usual case.
"""

import math
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from feature_store.chunks.rows import ChunkedRows, Columns, take_rows

Index = NDArray[np.int64]
BLOCK_BYTES = 64 * 2**20
"""How much is read at a time where rows are averaged."""
SHARE = 4
"""A view is loaded where it takes at most this part (one fourth) of the memory that is free."""


class RowView:
    """Rows of an array on disk, or means over several, and of each row some columns.

    Parameters
    ----------
    rows : ChunkedRows
    index : (n,) int64
        The rows that are read, in the order they are handed out.
    columns : slice or (m,) int, optional
        Which entries of the last axis.
    counts : (k,) int64, optional
        How many consecutive entries of `index` are averaged into each row of the view; each is a row of its own by
        default. Means are taken in float64.
    """

    def __init__(
        self, rows: ChunkedRows, index: Index, columns: Columns = slice(None), counts: Index | None = None
    ) -> None:
        self._rows, self._index, self._columns, self._counts = rows, index, columns, counts
        width = () if len(rows.shape) == 1 else (len(np.arange(rows.shape[-1])[columns]),)
        self.shape: tuple[int, ...] = (len(index if counts is None else counts), *rows.shape[1:-1], *width)
        self.dtype = rows.dtype
        everything = counts is None and columns == slice(None) if isinstance(columns, slice) else False
        self._is_whole = everything and np.array_equal(index, np.arange(len(rows)))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole, once read."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def __getitem__(self, key: slice | int | NDArray[Any]) -> NDArray[Any]:
        """Read rows: a slice, a position, positions or a mask."""
        if self._is_whole and isinstance(key, slice):
            return self._rows[key]
        return take_rows(key, len(self), self._take)

    def _take(self, chosen: Index) -> NDArray[Any]:
        if self._counts is None:
            return self._rows.take(self._index[chosen], self._columns)
        return self._means(chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        del copy
        return np.asarray(self[:], dtype=dtype)

    def read_into(self, out: NDArray[Any]) -> None:
        """Read everything into an array of this view's shape, each value copied once where the rows lie in order."""
        if self._is_whole:
            self._rows.read_into(out)
        else:
            np.copyto(out, self[:])

    def select(self, rows: Index | NDArray[np.bool_]) -> "RowView":
        """Return a view of some of the rows, by position or mask, which reads nothing."""
        chosen = np.arange(len(self))[rows]
        if self._counts is None:
            return RowView(self._rows, self._index[chosen], self._columns)
        parts = np.split(self._index, np.cumsum(self._counts)[:-1])
        index = np.concatenate([parts[row] for row in chosen]) if len(chosen) else self._index[:0]
        return RowView(self._rows, index, self._columns, self._counts[chosen])

    def narrow(self, columns: slice) -> "RowView":
        """Return a view of some of the columns, which reads nothing."""
        if not isinstance(self._columns, slice):
            return RowView(self._rows, self._index, self._columns[columns], self._counts)
        chosen = range(self._rows.shape[-1])[self._columns][columns]
        return RowView(self._rows, self._index, slice(chosen.start, chosen.stop, chosen.step), self._counts)

    def _means(self, chosen: Index) -> NDArray[Any]:
        assert self._counts is not None
        starts = np.cumsum(self._counts) - self._counts
        means = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        row_bytes = max(1, self.nbytes // max(1, len(self))) * int(self._counts.max(initial=1))
        step = max(1, BLOCK_BYTES // row_bytes)
        for first in range(0, len(chosen), step):
            block = chosen[first : first + step]
            counts = self._counts[block]
            rows = np.concatenate([np.arange(starts[row], starts[row] + self._counts[row]) for row in block])
            means[first : first + step] = mean_of_runs(self._rows.take(self._index[rows], self._columns), counts)
        return means


Values = NDArray[Any] | RowView
"""Rows in memory, or a view of those on disk; both are indexed along the first axis, and `np.asarray` gives all."""


def select(values: Any, rows: Index | NDArray[np.bool_]) -> Values:
    """Return some of the rows, by position or mask: a copy of those in memory, a view of those on disk."""
    chosen: Values = values.select(rows) if isinstance(values, RowView) else values[rows]
    return chosen


def loaded(view: RowView, available: int | None = None) -> Values:
    """Return the rows in memory where they take at most a fourth of what is free, else the view itself.

    Parameters
    ----------
    available : int, optional
        Free memory in bytes; the machine is asked by default.
    """
    free = psutil.virtual_memory().available if available is None else available
    return view[:] if view.nbytes <= free // SHARE else view


def mean_of_runs(values: NDArray[Any], counts: Index) -> NDArray[Any]:
    """Average consecutive rows, `counts` of them at a time, in float64; returns the values' own type."""
    starts = np.cumsum(counts) - counts
    total = np.add.reduceat(values, starts, axis=0, dtype=np.float64)
    means: NDArray[Any] = (total / counts.reshape(-1, *(1 for _ in values.shape[1:]))).astype(values.dtype)
    return means


def group_by_name(names: list[str]) -> tuple[Index, Index, list[str]]:
    """Return the order that brings equal names together, their counts, and the names in order of appearance."""
    unique = list(dict.fromkeys(names))
    row_of = {name: row for row, name in enumerate(unique)}
    index = np.array([row_of[name] for name in names], dtype=np.int64)
    return np.argsort(index, kind="stable"), np.bincount(index, minlength=len(unique)), unique


def mean_over_repeats(values: NDArray[Any], stimuli: list[str]) -> tuple[NDArray[Any], list[str]]:
    """Average rows of the same stimulus, in float64, in the order of first appearance."""
    order, counts, names = group_by_name(stimuli)
    return mean_of_runs(values[order], counts), names
