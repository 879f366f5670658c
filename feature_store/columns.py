"""Tables inside a Zarr group: one array per column, text as zero-padded UTF-8 bytes, which every Zarr reader opens."""

import json
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import StoreError
from feature_store.schema import MANIFEST

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


def check_columns(names: Sequence[str], where: object) -> None:
    """Raise `StoreError` unless a store can keep columns of these names; `where` is the table, for the message."""
    if fault := fault_of_columns(names):
        raise StoreError(f"{where}: {fault}")


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
