"""Rows of a Zarr array read straight from its chunk files: memory-mapped, each chunk's CRC checked at its first touch.

Only the layout that `feature_store.writer` produces is read this way (chunks of full rows, little-endian bytes with a
CRC-32C behind them); anything else is refused rather than guessed.
"""

from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from core.errors import StoreCorrupted, StoreError
from core.files import read_json
from feature_store.schema import CRC_BYTES

_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_CODECS_OF_BYTES = [{"name": "bytes"}, {"name": "crc32c"}]


class ChunkedRows:
    """An array on disk that is indexed along its first axis, like a read-only numpy array.

    Parameters
    ----------
    folder : Path
        The Zarr array's folder, which holds `zarr.json` and `c/`.
    advice : str
        What to do about a damaged chunk; it ends the message.
    """

    def __init__(self, folder: Path, advice: str) -> None:
        meta = read_json(folder / "zarr.json")
        self.shape: tuple[int, ...] = tuple(meta["shape"])
        self.dtype = np.dtype(meta["data_type"]).newbyteorder("<")
        self.attributes: dict[str, Any] = meta["attributes"]
        chunk = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
        if meta["codecs"] not in (_CODECS, _CODECS_OF_BYTES) or chunk[1:] != self.shape[1:]:
            raise StoreError(f"{folder}: its chunks are not full rows with a CRC-32C; read it with zarr, or {advice}")
        self._step = chunk[0]
        self._folder = folder
        self._advice = advice
        self._chunks: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return rows; a slice within one chunk is a view of the mapped file, everything else a copy."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            first, last = start // self._step, max(start, stop - 1) // self._step
            if step == 1 and first == last and stop > start:
                offset = first * self._step
                return self._chunk(first)[start - offset : stop - offset]
            rows = np.arange(start, stop, step)
        return self._take(np.asarray(rows))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return everything."""
        del copy
        return np.asarray(self[:], dtype=dtype)

    def _take(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        chunks, offsets = np.divmod(rows, self._step)
        for index in np.unique(chunks):
            here = chunks == index
            taken[here] = self._chunk(int(index))[offsets[here]]
        return taken

    def _chunk(self, index: int) -> NDArray[Any]:
        if index not in self._chunks:
            self._chunks[index] = self._open_chunk(index)
        return self._chunks[index]

    def _open_chunk(self, index: int) -> NDArray[Any]:
        path = self._folder / "c" / "/".join([str(index), *("0" for _ in self.shape[1:])])
        shape = (self._step, *self.shape[1:])
        expected = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize + CRC_BYTES
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            what = "is missing" if found is None else f"has {found} bytes instead of {expected}"
            raise StoreCorrupted(f"{self._folder}: chunk {path.relative_to(self._folder)} {what}; {self._advice}")
        raw = np.memmap(path, np.uint8, "r")
        if google_crc32c.value(raw[:-CRC_BYTES]) != int.from_bytes(raw[-CRC_BYTES:].tobytes(), "little"):
            raise StoreCorrupted(
                f"{self._folder}: chunk {path.relative_to(self._folder)} fails its checksum; {self._advice}"
            )
        values: NDArray[Any] = raw[:-CRC_BYTES].view(self.dtype).reshape(shape)
        return values
