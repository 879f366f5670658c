"""Which reader opens what: every group says its encoding type and version, and readers are registered by both.

A later version of this program keeps the readers of earlier versions, so that a store written today stays readable.
Follows anndata's registry of element specs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from core.errors import StoreError
from core.files import read_json

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
        The group says no encoding, or one that this program does not read.
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
