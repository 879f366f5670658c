"""Tables inside a Zarr group: one array per column, text as zero-padded UTF-8 bytes, which every Zarr reader opens."""

import json

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import StoreError


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
