"""How a chunk's values become a file's bytes: as they are, or compressed, always followed by their CRC-32C.

Compression is numcodecs' Blosc through Zarr, so every Zarr v3 reader opens it. It runs in a single thread: several
would give other bytes each time. It pays for BOLD windows; betas are noise in their low bits and gain little. See
`benchmarks/store.py`.
"""

import threading
from collections.abc import Callable
from typing import Any, Literal

import numcodecs
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from core.config import Config

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
    """How responses are laid down."""

    compression: Compression = "none"
    """``"none"`` is mapped into memory; ``"lz4"`` and ``"zstd"`` are smaller and unpacked chunk by chunk."""


def compressors(compression: Compression, itemsize: int) -> list[Any]:
    """Return what Zarr applies to a chunk: the compression, if any, and the checksum over what is stored.

    Parameters
    ----------
    compression : "none", "lz4" or "zstd"
    itemsize : int
        Bytes of one value, along which the compression sorts.
    """
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
    """Return how the chunks of an array are unpacked; None where they are their values' bytes and can be mapped.

    Parameters
    ----------
    codecs : the list ``codecs`` of an array's `zarr.json`

    Raises
    ------
    ValueError
        The chunks are laid down in a way that this project does not write.
    """
    if len(codecs) < 2 or codecs[0] not in _BYTES or codecs[-1] != _CRC:
        raise ValueError("its chunks are not little-endian bytes with a CRC-32C")
    between = codecs[1:-1]
    if not between:
        return None
    if [codec["name"] for codec in between] != ["blosc"]:
        raise ValueError(f"its chunks are compressed by {', '.join(str(codec['name']) for codec in between)}")
    return lambda raw: np.frombuffer(numcodecs.blosc.decompress(raw), np.uint8)
