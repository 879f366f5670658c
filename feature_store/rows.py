"""Rows of arrays on disk, read straight from chunk files, and views of chosen or averaged rows that are not yet read.

Only the layout that `feature_store.writer` produces is read this way (chunks of full rows, with a CRC-32C behind them);
anything else is refused rather than guessed. Uncompressed chunks are mapped into memory, so that an array larger than
memory is read like any other; compressed ones are decompressed. Each chunk's CRC is checked when it is first read.

Pages of a mapped file stay in the memory of a process that has touched them, so that a process that reads ten subjects
would hold ten subjects. `ChunkCache` bounds what the chunks of all arrays take together. What it evicts comes back from
the file when it is read again, and its checksum need not be checked again: the map stays where it is.
"""

import errno
import math
import resource
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import google_crc32c
import numpy as np
import psutil
from numpy.typing import NDArray

from core.errors import StoreCorrupted, StoreError
from core.files import read_json, release_pages
from feature_store.chunks import decoder_of
from feature_store.schema import CRC_BYTES


class Chunk:
    """One chunk's values, (row, …): a file's own pages, or decompressed and gone once they are evicted."""

    def __init__(self, values: NDArray[np.generic], *, mapped: bool) -> None:
        self.nbytes = values.nbytes
        self.values: NDArray[np.generic] | None = values
        """The values, or None where they must be decompressed again."""
        self._mapped = mapped

    def evict(self) -> None:
        """Release the memory; arrays that were handed out stay as they are."""
        if self._mapped and self.values is not None:
            release_pages(self.values)
        else:
            self.values = None


class ChunkCache:
    """An LRU cache of the chunks in memory, of at most `max_bytes` together; the chunk in use is always kept."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes: WeakKeyDictionary[Chunk, int] = WeakKeyDictionary()
        self._total = 0
        self._lock = threading.Lock()

    def use(self, chunk: Chunk, touched: int) -> None:
        """Count `touched` bytes of a chunk that are about to be read, and evict other chunks beyond the bound."""
        with self._lock:
            before = self._bytes.pop(chunk, 0)
            self._bytes[chunk] = size = min(before + touched, chunk.nbytes)
            self._total += size - before
            if self._total > self.max_bytes:
                self._evict(chunk)

    def _evict(self, newest: Chunk) -> None:
        self._total = sum(self._bytes.values())  # chunks whose array is gone no longer count
        for chunk in list(self._bytes):
            if self._total <= self.max_bytes or chunk is newest:
                break
            self._total -= self._bytes.pop(chunk)
            chunk.evict()


MIN_CACHE_BYTES = 2**30
MAPPED = ChunkCache(MIN_CACHE_BYTES)
"""Chunks of this process that are mapped: to read one again costs next to nothing."""
DECOMPRESSED = ChunkCache(max(MIN_CACHE_BYTES, psutil.virtual_memory().available // 4))
"""Chunks that were decompressed, which costs as much again: up to a fourth of the memory that was free."""

Columns = slice | NDArray[np.integer[Any]]
"""Which of the last axis's entries are read, such as the voxels of some regions."""

AROUND_BYTES = 2**22
"""How much the system may map around a row that is touched, at both of its ends together: pages of 2 MB, where a file's
lie so in its cache."""
SMALL_ROW_BYTES = 4096
"""Below this, one indexing call for many rows is faster than one copy a row."""


class ChunkedRows:
    """An array on disk that is indexed along its first axis, like a read-only numpy array.

    Parameters
    ----------
    folder : the Zarr array's, which holds `zarr.json` and `c/`
    advice : what to do about a damaged chunk; it ends the message
    published : the CRC that each chunk ends with, in hexadecimal, by the chunk's path below `folder`, as the manifest
        has it: another chunk in its place, sound in itself, is then found as well
    """

    def __init__(self, folder: Path, advice: str, published: Mapping[str, str] | None = None) -> None:
        meta = read_json(folder / "zarr.json")
        self.shape: tuple[int, ...] = tuple(meta["shape"])
        self.dtype = np.dtype(meta["data_type"]).newbyteorder("<")
        self.attributes: dict[str, Any] = meta["attributes"]
        chunk = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
        try:
            self._decode = decoder_of(meta["codecs"])
            if chunk[1:] != self.shape[1:]:
                raise ValueError("its chunks are not full rows")
        except ValueError as error:
            raise StoreError(f"{folder}: {error}; read it with zarr, or {advice}") from None
        self._step = chunk[0]
        self._folder = folder
        self._advice = advice
        self._published = published or {}
        self._chunks: dict[int, Chunk] = {}

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * int(self.dtype.itemsize)

    @property
    def is_mapped(self) -> bool:
        """Whether chunks are mapped into memory, so that touching one costs nothing; else each is unpacked."""
        return self._decode is None

    def __getitem__(self, rows: slice | int | NDArray[Any]) -> NDArray[Any]:
        """Return rows: a slice, a position, positions or a mask.

        A slice within one chunk is a read-only view of the mapped file, everything else a copy.
        """
        if not isinstance(rows, slice):
            return take_rows(rows, len(self), self.take)
        start, stop, step = rows.indices(len(self))
        if step != 1 or stop <= start:
            return self.take(np.arange(start, stop, step))
        first, last = start // self._step, (stop - 1) // self._step
        if first == last:
            offset = first * self._step
            return self._chunk(first, (stop - start) * self.row_bytes)[start - offset : stop - offset]
        read = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self.read_into(read, start)
        return read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return everything."""
        del copy
        return np.asarray(self[:], dtype=dtype)

    def take(self, rows: NDArray[np.integer[Any]], columns: Columns = slice(None)) -> NDArray[Any]:
        """Return rows in the order asked for, (n,) from 0 on, and of each only some entries of the last axis."""
        chunks, offsets = np.divmod(rows, self._step)
        width = len(np.arange(self.shape[-1])[columns]) if self.shape[1:] else 0
        taken = np.empty((len(rows), *self.shape[1:-1], *((width,) if self.shape[1:] else ())), self.dtype)
        for index in np.unique(chunks):
            here = np.flatnonzero(chunks == index)
            chunk = self._chunk(int(index), len(here) * (self.row_bytes + AROUND_BYTES))
            chunk = chunk[..., columns] if isinstance(columns, slice) and chunk.ndim > 1 else chunk
            if self.row_bytes < SMALL_ROW_BYTES or not isinstance(columns, slice):
                part = chunk[offsets[here]]
                taken[here] = part if isinstance(columns, slice) else part[..., columns]
                continue
            for row, offset in zip(here.tolist(), offsets[here].tolist(), strict=True):
                taken[row] = chunk[offset]
        return taken

    def read_into(self, out: NDArray[Any], start: int = 0) -> None:
        """Copy rows into an array that is there already, as many as it has; each value is copied once."""
        stop = start + len(out)
        for index in range(start // self._step, (stop - 1) // self._step + 1):
            first = index * self._step
            low, high = max(start, first), min(stop, first + self._step)
            chunk = self._chunk(index, (high - low) * self.row_bytes)
            np.copyto(out[low - start : high - start], chunk[low - first : high - first])

    def _chunk(self, index: int, touched: int) -> NDArray[Any]:
        """Return a chunk, of which `touched` bytes are about to be read."""
        known = self._chunks.get(index)
        values = None if known is None else known.values
        if known is None or values is None:
            values = self._open_chunk(index)
            self._chunks[index] = known = Chunk(values, mapped=self.is_mapped)
            touched = known.nbytes  # for its checksum
        (MAPPED if self.is_mapped else DECOMPRESSED).use(known, touched)
        return values

    def _open_chunk(self, index: int) -> NDArray[Any]:
        path = self._folder / "c" / "/".join([str(index), *("0" for _ in self.shape[1:])])
        shape = (self._step, *self.shape[1:])
        expected = self._step * self.row_bytes
        found = path.stat().st_size if path.is_file() else None
        if found is None or found <= CRC_BYTES or (self._decode is None and found != expected + CRC_BYTES):
            what = "is missing" if found is None else f"has {found} bytes instead of {expected + CRC_BYTES}"
            raise self._corrupted(path, what)
        raw = _map(path)
        tail = raw[-CRC_BYTES:].tobytes()
        if google_crc32c.value(raw[:-CRC_BYTES]) != int.from_bytes(tail, "little"):
            raise self._corrupted(path, "fails its checksum")
        if self._published.get(path.relative_to(self._folder).as_posix(), tail.hex()) != tail.hex():
            raise self._corrupted(path, "is not the chunk that was published")
        content = raw[:-CRC_BYTES] if self._decode is None else self._decode(raw[:-CRC_BYTES])
        if content.nbytes != expected:
            raise self._corrupted(path, f"unpacks to {content.nbytes} bytes instead of {expected}")
        return np.asarray(content.view(self.dtype).reshape(shape))

    def _corrupted(self, path: Path, fault: str) -> StoreCorrupted:
        return StoreCorrupted(f"{self._folder}: chunk {path.relative_to(self._folder)} {fault}; {self._advice}")


def take_rows(key: Any, length: int, take: Callable[[NDArray[np.int64]], NDArray[Any]]) -> NDArray[Any]:
    """Take what an index along the first axis means, as numpy reads it: a position, positions or a mask.

    Raises
    ------
    IndexError
        A position lies outside, or other axes are indexed too.
    """
    if isinstance(key, tuple):
        raise IndexError("rows on disk are indexed along the first axis; index what comes back for the others")
    chosen = np.arange(length)[key]
    rows = take(np.atleast_1d(chosen))
    return np.asarray(rows[0]) if np.ndim(chosen) == 0 else rows


def _map(path: Path) -> NDArray[np.uint8]:
    """Map a file; each map keeps the file open, so the soft limit on open files is raised where it is reached."""
    try:
        return np.memmap(path, np.uint8, "r")
    except OSError as error:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if error.errno != errno.EMFILE:
            raise
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return np.memmap(path, np.uint8, "r")


Index = NDArray[np.int64]
BLOCK_BYTES = 64 * 2**20
"""How much is read at a time where rows are averaged."""
SHARE = 4
"""A view is loaded where it takes at most this part (one fourth) of the memory that is free."""


class RowView:
    """Rows of an array on disk, or means over several, and of each row some columns.

    Parameters
    ----------
    index : (n,), the rows that are read, in the order they are handed out
    columns : slice or (m,), which entries of the last axis
    counts : (k,), how many consecutive entries of `index` are averaged, in float64, into each row of the view; each is
        a row of its own by default
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
    """Return the rows in memory where they take at most a fourth of what is free (`available` bytes), else the view."""
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
