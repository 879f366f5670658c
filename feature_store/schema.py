"""How a store lies on disk: names, encoding types, the root's exact bytes, the shape of chunks.

A store is one Zarr v3 hierarchy, `features.zarr`::

    zarr.json                      the root; its bytes are fixed, so it needs no manifest
    responses/sub-01/              one immutable group per subject
        MANIFEST.json              size and SHA-256 of every other file of the group
        train/betas                (trial, voxel) float32, or (trial, time, voxel)
        train/trials/…             one array per column: stimulus, repetition, …
        test/…
        unlabelled/betas           (row, voxel) float32, or (row, time, voxel); only where a subject has such rows
        voxels/…                   roi, …
    targets/latents/               one immutable group per extractor
        train/values               (stimulus, …)
        train/stimuli/…            stimulus, caption, …
        test/…

One chunk is one file of full rows with a CRC-32C behind them, compressed only where a study asks for it: any Zarr v3
reader opens it, and ours maps it into memory.

Every group names its encoding type and version, and readers are registered by both, as anndata does. A later version of
this program keeps the readers of earlier versions, so that a store written today stays readable.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import StoreError
from core.files import read_json

Kind = Literal["responses", "targets"]

STORE_NAME = "features.zarr"
MANIFEST = "MANIFEST.json"
ENCODING_VERSION = "1"
UNLABELLED = "unlabelled/betas"
"""The array of responses to no stimulus, which a group may lack."""
CRC_BYTES = 4
CHUNK_BYTES = 32 * 2**20
"""What a chunk is about: large enough that a scan is one sequential read, small enough to check at first touch."""


def group_attributes(encoding_type: str, **more: Any) -> dict[str, Any]:
    """Return a group's attributes in sorted order; the order counts, because it is in the bytes."""
    return dict(sorted({"encoding-type": encoding_type, "encoding-version": ENCODING_VERSION, **more}.items()))


def _container(encoding_type: str) -> bytes:
    node = {"attributes": group_attributes(encoding_type), "zarr_format": 3, "node_type": "group"}
    return f"{json.dumps(node, indent=2)}\n".encode()


CONTAINERS: dict[str, bytes] = {
    "zarr.json": _container("store"),
    "responses/zarr.json": _container("responses-set"),
    "targets/zarr.json": _container("targets-set"),
}
"""The metadata files above the groups, with their exact bytes; they are small and belong into git."""


def chunk_rows(rows: int, row_bytes: int) -> int:
    """Return how many rows a chunk holds: about `CHUNK_BYTES`, or down to half of it where chunks then come out even.

    Zarr stores a last chunk that is not full padded.
    """
    chunks = max(1, round(rows * row_bytes / CHUNK_BYTES))
    even = next((more for more in range(chunks, 2 * chunks) if rows % more == 0), chunks)
    return max(1, math.ceil(rows / even))


Reader = TypeVar("Reader", bound=Callable[..., Any])
Key = tuple[str, str]
"""Encoding type and encoding version, such as ``("responses", "1")``."""

_READERS: dict[Key, Callable[..., Any]] = {}


def reads(encoding_type: str, *versions: str) -> Callable[[Reader], Reader]:
    """Register the decorated class or function as the reader of some versions of an encoding type."""

    def register(reader: Reader) -> Reader:
        for version in versions:
            _READERS[encoding_type, version] = reader
        return reader

    return register


def reader_of(group: Path) -> Callable[..., Any]:
    """Return the reader registered for a Zarr group's encoding.

    Raises
    ------
    StoreError
        The group names no encoding, or one that this program does not read.
    """
    attributes = read_json(group / "zarr.json")["attributes"]
    key = str(attributes.get("encoding-type")), str(attributes.get("encoding-version"))
    if key not in _READERS:
        known = [version for kind, version in sorted(_READERS) if kind == key[0]]
        readable = f"reads {key[0]} {', '.join(known)}" if known else f"knows no '{key[0]}'"
        raise StoreError(
            f"{group}: written as '{key[0]}' in encoding version {key[1]}; this program {readable}; upgrade brain2video"
        )
    return _READERS[key]


COLUMN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
"""A column's name becomes a folder's name."""
RESERVED = ("zarr.json", MANIFEST, "c")
"""Names that the store's own files and folders have beside a table's columns."""


def fault_of_columns(names: Sequence[str]) -> str | None:
    """Return what keeps columns of these names from being kept in a store, and what to do, or None where nothing does.

    The clause goes after the table's path, for example ``"the column 'a/b' cannot name a folder; rename it, …"``.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        return f"the column '{twice[0]}' is there twice; rename or remove one"
    for name in names:
        if name in RESERVED:
            return f"the column '{name}' has a name that the store keeps for itself; rename it"
        if not COLUMN.fullmatch(name):
            return (
                f"the column '{name}' cannot name a folder; rename it, with at most 64 letters, digits, blanks, '.', "
                "'_' and '-', a letter or a digit in front"
            )
    return None


def encode_column(column: pd.Series) -> tuple[NDArray[np.generic], str]:
    """Return a column as an array and its encoding type.

    Integers, booleans and floats stay what they are (``"numbers"``); strings become (row, width) uint8 (``"utf-8"``);
    anything else, such as a list of captions, becomes JSON text (``"json"``).
    """
    values = column.to_list()
    if pd.api.types.is_numeric_dtype(column):
        return np.ascontiguousarray(column.to_numpy()), "numbers"
    if all(isinstance(value, str) for value in values):
        return _to_bytes(values), "utf-8"
    return _to_bytes([json.dumps(value, ensure_ascii=False, sort_keys=True) for value in values]), "json"


def decode_column(values: NDArray[np.generic], encoding: str) -> list[object] | NDArray[np.generic]:
    """Return what `encode_column` was given."""
    if encoding == "numbers":
        return values
    text = [bytes(row).rstrip(b"\0").decode() for row in values.astype(np.uint8)]
    if encoding == "utf-8":
        return list(text)
    if encoding == "json":
        return [json.loads(value) for value in text]
    raise StoreError(f"a table's column has the encoding '{encoding}'; this version reads numbers, utf-8 and json")


def _to_bytes(texts: list[str]) -> NDArray[np.uint8]:
    raw = [text.encode() for text in texts]
    width = max((len(value) for value in raw), default=0) or 1
    return np.array(raw, dtype=f"S{width}").view(np.uint8).reshape(len(raw), width)
