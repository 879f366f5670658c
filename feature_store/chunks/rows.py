"""Rows of a Zarr array read straight from its chunk files, each chunk's CRC checked at its first touch.

Only the layout that `feature_store.writer` produces is read this way (chunks of full rows, with a CRC-32C behind them);
anything else is refused rather than guessed. Uncompressed chunks are mapped into memory, so that an array larger than
memory is read like any other; compressed ones are unpacked. What of all arrays is held at once is bounded, see
`feature_store.chunks.cache`.
"""

import errno
import math
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from core.errors import StoreCorrupted, StoreError
from core.files import read_json
from feature_store.chunks.cache import MAPPED, UNPACKED, Chunk
from feature_store.chunks.codecs import decoder_of
from feature_store.schema import CRC_BYTES

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
    folder : Path
        The Zarr array's folder, which holds `zarr.json` and `c/`.
    advice : str
        What to do about a damaged chunk; it ends the message.
    published : mapping of chunk to the CRC it ends with, optional
        By the chunk's path below `folder`, in hexadecimal, as the manifest has it: another chunk in its place, sound in
        itself, is then found as well.
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
        """Return a chunk, so many bytes of which are about to be touched."""
        known = self._chunks.get(index)
        values = None if known is None else known.values
        if known is None or values is None:
            values = self._open_chunk(index)
            self._chunks[index] = known = Chunk(values, mapped=self.is_mapped)
            touched = known.nbytes  # for its checksum
        (MAPPED if self.is_mapped else UNPACKED).use(known, touched)
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
            raise self._corrupted(path, "is another one than was published")
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
