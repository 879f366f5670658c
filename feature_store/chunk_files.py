"""Writes chunk files as Zarr would, one after another, while threads flush and digest those before.

A chunk is first a `.partial` file; it takes its name only after it is on the disk, so a file of that name is whole, and
its CRC-32C says so too. Reading never needs this module.
"""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from feature_store.codecs import Encode
from feature_store.schema import CRC_BYTES

WAITING = 4
"""How many chunks may wait for the disk; each is held in memory until it is there."""


class ChunkFiles:
    """Writes chunks and remembers their digests; call `finish` before any is read."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=WAITING, thread_name_prefix="chunks")
        self._waiting: deque[Future[None]] = deque()
        self.digests: dict[Path, str] = {}
        """SHA-256 of every file written so far."""

    def write(self, path: Path, values: NDArray[Any], encode: Encode) -> None:
        """Write one chunk's values, little-endian in C order, encoded, with their CRC-32C behind them."""
        little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        content = encode(little)
        tail = int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb", buffering=0) as file:
            _write_all(file.fileno(), content)
            _write_all(file.fileno(), tail)
        while len(self._waiting) >= WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._threads.submit(self._settle, partial, path, content, tail))

    def finish(self) -> None:
        """Wait until everything written so far is on the disk; raises what went wrong there."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """End the threads, after what was written has settled."""
        self._threads.shutdown(wait=True)

    def _settle(self, partial: Path, path: Path, content: NDArray[np.uint8], tail: bytes) -> None:
        handle = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        digest = sha256(content.data)
        digest.update(tail)
        partial.replace(path)
        self.digests[path] = digest.hexdigest()


def chunk_is_whole(path: Path, size: int | None) -> bool:
    """Say whether a chunk file has the expected size, where one is known, and the CRC-32C that it ends with."""
    found = path.stat().st_size if path.is_file() else 0
    if found <= CRC_BYTES or (size is not None and found != size):
        return False
    raw = np.memmap(path, np.uint8, "r")
    return bool(google_crc32c.value(raw[:-CRC_BYTES]) == int.from_bytes(raw[-CRC_BYTES:].tobytes(), "little"))


def _write_all(handle: int, data: Any) -> None:
    """Write everything: one call may take only part of it, and at most 2 GiB."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(handle, view) :]
