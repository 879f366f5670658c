"""Writes chunk files as Zarr would: by one process, while threads flush and digest those before, or by many.

A chunk is first a `.partial` file under a name that nobody else takes; it gets its own only after it is on the disk, so
a file of that name is whole, and its CRC-32C says so too. Reading never needs this module.
"""

import os
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from core.files import digest_file
from feature_store.chunks.codecs import Compression, Encode, encoder_of
from feature_store.schema import CRC_BYTES

WAITING = 4
"""How many chunks may wait for the disk; each is held in memory until it is there."""

RowBlock = Callable[[int, int], NDArray[Any]]
"""Returns rows start to stop of an array that is being written."""


@runtime_checkable
class TellingRows(Protocol):
    """A `RowBlock` that has something to say of its rows beside their values, be they made now or before."""

    def __call__(self, start: int, stop: int, /) -> NDArray[Any]:
        """Return rows start to stop."""
        ...

    def tell(self, start: int, stop: int, /) -> Any:
        """Return what is to be known of these rows."""
        ...


class Stretch(NamedTuple):
    """The rows of one chunk."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"rows {self.start} to {self.stop - 1}"


class Encoded(NamedTuple):
    """What a chunk's file holds: the values, encoded, and the CRC-32C behind them."""

    content: NDArray[np.uint8]
    tail: bytes


class Written(NamedTuple):
    """A chunk that is on the disk: the SHA-256 of its file, and what its rows had to say."""

    digest: str
    told: Any


@dataclass(frozen=True)
class ArrayChunks:
    """How an array lies on disk in chunks of full rows.

    Attributes
    ----------
    folder : the array's, in which its `zarr.json` lies
    shape : of the whole array
    dtype : numpy's name
    step : rows of a chunk
    compression : see `feature_store.chunks.codecs`
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: str
    step: int
    compression: Compression

    @property
    def fill(self) -> float:
        """What stands in the rows of the last chunk that the array does not have."""
        return np.nan if np.dtype(self.dtype).kind == "f" else 0

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk's values."""
        return self.step * int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def stretches(self) -> list[Stretch]:
        """Return the rows of every chunk."""
        return [Stretch(start, min(start + self.step, self.shape[0])) for start in range(0, self.shape[0], self.step)]

    def path(self, stretch: Stretch) -> Path:
        """Return a chunk's file."""
        index = str(stretch.start // self.step)
        return self.folder / "c" / "/".join([index, *("0" for _ in self.shape[1:])])

    def is_whole(self, stretch: Stretch) -> bool:
        """Say whether a chunk is there as it was written."""
        stored = self.chunk_bytes + CRC_BYTES if self.compression == "none" else None
        return chunk_is_whole(self.path(stretch), stored)

    def encoded(self, rows: RowBlock, stretch: Stretch, encode: Encode) -> Encoded:
        """Make a chunk's rows and return what its file will hold: little-endian values in C order, and their CRC."""
        block = np.asarray(rows(*stretch), dtype=self.dtype)
        lacking = self.step - (stretch.stop - stretch.start)
        if lacking:  # Zarr stores the last chunk padded
            block = np.concatenate([block, np.full((lacking, *self.shape[1:]), self.fill, block.dtype)])
        content = encode(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")))
        return Encoded(content, int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little"))


def write_stretch(chunks: ArrayChunks, rows: RowBlock, stretch: Stretch) -> Written:
    """Write one chunk in whichever process, unless it is there already, and return its digest; the folder is there.

    Parameters
    ----------
    rows : RowBlock
        Picklable, where another process is to do this; what `TellingRows` have to say is returned too.
    """
    path = chunks.path(stretch)
    if chunks.is_whole(stretch):
        digest = digest_file(path)
    else:
        encoded = chunks.encoded(rows, stretch, encoder_of(chunks.compression))
        digest = _settle(_write_partial(path, encoded), path, encoded)
    return Written(digest, rows.tell(*stretch) if isinstance(rows, TellingRows) else None)


class ChunkFiles:
    """Writes chunks and remembers their digests; call `finish` before any is read."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=WAITING, thread_name_prefix="chunks")
        self._waiting: deque[Future[None]] = deque()
        self.digests: dict[Path, str] = {}
        """SHA-256 of every file written so far."""

    def write(self, path: Path, encoded: Encoded) -> None:
        """Write one chunk."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _write_partial(path, encoded)
        while len(self._waiting) >= WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._threads.submit(self._remember, partial, path, encoded))

    def finish(self) -> None:
        """Wait until everything written so far is on the disk; raises what went wrong there."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """End the threads, after what was written has settled."""
        self._threads.shutdown(wait=True)

    def _remember(self, partial: Path, path: Path, encoded: Encoded) -> None:
        self.digests[path] = _settle(partial, path, encoded)


def chunk_is_whole(path: Path, size: int | None) -> bool:
    """Say whether a chunk file has the expected size, where one is known, and the CRC-32C that it ends with."""
    found = path.stat().st_size if path.is_file() else 0
    if found <= CRC_BYTES or (size is not None and found != size):
        return False
    raw = np.memmap(path, np.uint8, "r")
    return bool(google_crc32c.value(raw[:-CRC_BYTES]) == int.from_bytes(raw[-CRC_BYTES:].tobytes(), "little"))


def _write_partial(path: Path, encoded: Encoded) -> Path:
    """Write a chunk under a name that no other process takes, and return it."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    with partial.open("wb", buffering=0) as file:
        _write_all(file.fileno(), encoded.content)
        _write_all(file.fileno(), encoded.tail)
    return partial


def _settle(partial: Path, path: Path, encoded: Encoded) -> str:
    """Bring a partial file to the disk, give it its name, and return the SHA-256 of its content."""
    handle = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    digest = sha256(encoded.content.data)
    digest.update(encoded.tail)
    partial.replace(path)
    return digest.hexdigest()


def _write_all(handle: int, data: Any) -> None:
    """Write everything: one call may take only part of it, and at most 2 GiB."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(handle, view) :]
