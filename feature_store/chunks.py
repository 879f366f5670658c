"""How chunks of an array are encoded and written: the files that Zarr itself would write, byte for byte.

A chunk's values are stored as they are or compressed, always followed by their CRC-32C. Compression is numcodecs' Blosc
through Zarr, so every Zarr v3 reader opens it. It runs in a single thread: several would give other bytes each time. It
pays for BOLD windows; betas are noise in their low bits and gain little. See `benchmarks/store.py`.

One process may write all chunks, while threads flush and digest those before, or many processes each some of them. A
chunk is first a `.partial` file under a unique name; it gets its own name only after it is on the disk, so a file of
that name is whole, and its CRC-32C confirms it.
"""

import os
import threading
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import google_crc32c
import numcodecs
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from core.config import Config
from core.files import digest_file, fsync_path
from feature_store.schema import CRC_BYTES

Compression = Literal["none", "lz4", "zstd"]
Encode = Callable[[NDArray[Any]], NDArray[np.uint8]]
"""Turns a chunk's values into what its file holds before the CRC."""
Decode = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Turns a chunk file's bytes, its CRC taken off, into the bytes of its values."""

_one_at_a_time = threading.Lock()
"""The number of Blosc's threads is the process's, not the caller's."""
_LEVEL = 5
_SHUFFLE: dict[Compression, Literal["bitshuffle", "shuffle"]] = {"lz4": "bitshuffle", "zstd": "shuffle"}
_BYTES = ({"name": "bytes", "configuration": {"endian": "little"}}, {"name": "bytes"})
_CRC = {"name": "crc32c"}


class StorageConfig(Config):
    """How responses are stored."""

    compression: Compression = "none"
    """``"none"`` is mapped into memory; ``"lz4"`` and ``"zstd"`` are smaller and decompressed chunk by chunk."""


def compressors(compression: Compression, itemsize: int) -> list[Any]:
    """Return what Zarr applies to a chunk: the compression, if any, and the checksum over what is stored."""
    if compression == "none":
        return [Crc32cCodec()]
    blosc = BloscCodec(cname=compression, clevel=_LEVEL, shuffle=_SHUFFLE[compression], typesize=itemsize, blocksize=0)
    return [blosc, Crc32cCodec()]


def encoder_of(compression: Compression) -> Encode:
    """Return how a chunk's values are packed, byte for byte as `compressors` makes Zarr do it."""
    if compression == "none":
        return lambda values: values.reshape(-1).view(np.uint8)
    shuffle = {"bitshuffle": numcodecs.Blosc.BITSHUFFLE, "shuffle": numcodecs.Blosc.SHUFFLE}[_SHUFFLE[compression]]
    blosc = numcodecs.Blosc(cname=compression, clevel=_LEVEL, shuffle=shuffle, blocksize=0)

    def encode(values: NDArray[Any]) -> NDArray[np.uint8]:
        with _one_at_a_time:
            before = numcodecs.blosc.set_nthreads(1)
            try:
                return np.frombuffer(blosc.encode(values), np.uint8)
            finally:
                numcodecs.blosc.set_nthreads(before)

    return encode


def decoder_of(codecs: list[dict[str, Any]]) -> Decode | None:
    """Return how chunks with these ``codecs`` are unpacked; None where they are their values' bytes and can be mapped.

    Raises
    ------
    ValueError
        The chunks are encoded in a way that this project does not write.
    """
    if len(codecs) < 2 or codecs[0] not in _BYTES or codecs[-1] != _CRC:
        raise ValueError("its chunks are not little-endian bytes with a CRC-32C")
    between = codecs[1:-1]
    if not between:
        return None
    if [codec["name"] for codec in between] != ["blosc"]:
        raise ValueError(f"its chunks are compressed by {', '.join(str(codec['name']) for codec in between)}")
    return lambda raw: np.frombuffer(numcodecs.blosc.decompress(raw), np.uint8)


WAITING = 4
"""How many chunks may wait for the disk; each is kept in memory until it is there."""

RowBlock = Callable[[int, int], NDArray[Any]]
"""Returns rows start to stop of an array that is being written."""


@runtime_checkable
class RowsWithSummary(Protocol):
    """A `RowBlock` that also returns a summary of its rows, of those that were written by an earlier run too."""

    def __call__(self, start: int, stop: int, /) -> NDArray[Any]:
        """Return rows start to stop."""
        ...

    def summary(self, start: int, stop: int, /) -> Any:
        """Return a summary of these rows; picklable."""
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
    """A chunk that is on the disk: the SHA-256 of its file, and the summary of its rows."""

    digest: str
    summary: Any


@dataclass(frozen=True)
class ArrayChunks:
    """How an array lies on disk in chunks of full rows."""

    folder: Path  # in which its `zarr.json` lies
    shape: tuple[int, ...]  # of the whole array
    dtype: str  # numpy's name
    step: int  # rows of a chunk
    compression: Compression

    @property
    def fill(self) -> float:
        """The value that pads the last chunk beyond the array's rows."""
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
        """Return whether a chunk is there as it was written."""
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
    """Write one chunk, in any process, unless it is there already, and return its digest; its folder exists."""
    path = chunks.path(stretch)
    if chunks.is_whole(stretch):
        digest = digest_file(path)
    else:
        encoded = chunks.encoded(rows, stretch, encoder_of(chunks.compression))
        digest = _settle(_write_partial(path, encoded), path, encoded)
    return Written(digest, rows.summary(*stretch) if isinstance(rows, RowsWithSummary) else None)


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
        self.finish(WAITING - 1)
        self._waiting.append(self._threads.submit(self._remember, partial, path, encoded))

    def finish(self, but: int = 0) -> None:
        """Wait until all chunks so far but a few are on the disk; raises what went wrong there."""
        while len(self._waiting) > but:
            self._waiting.popleft().result()

    def close(self) -> None:
        """End the threads, after what was written has settled."""
        self._threads.shutdown(wait=True)

    def _remember(self, partial: Path, path: Path, encoded: Encoded) -> None:
        self.digests[path] = _settle(partial, path, encoded)


def chunk_is_whole(path: Path, size: int | None) -> bool:
    """Return whether a chunk file has the expected size, where one is known, and the CRC-32C that it ends with."""
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
    fsync_path(partial)
    digest = sha256(encoded.content.data)
    digest.update(encoded.tail)
    partial.replace(path)
    return digest.hexdigest()


def _write_all(handle: int, data: Any) -> None:
    """Write everything: one call may take only part of it, and at most 2 GiB."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(handle, view) :]
