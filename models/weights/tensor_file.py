"""Safetensors files, written and read one tensor at a time: a model of many subjects need not fit in memory.

Models on disk: `config.json` beside `model.safetensors`, so that no model file can run code.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from core.errors import ModelError
from core.files import digest_folder, disk_explained, read_json, release_pages, staged_folder, write_json

ALIGNMENT = 8  # bytes: what the header is filled up to
LENGTH_BYTES = 8  # a file begins with the length of its header
TYPES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""How the format calls numpy's types, in the order in which its own writer lays tensors out."""
NAMES = {name: ours for ours, name in TYPES.items()}

Array = NDArray[Any]
Stored = Mapping[str, Array]
"""Tensors by name, in memory or on disk."""


class TensorFile(Mapping[str, Array]):
    """The tensors of a file, each mapped anew at every access; its pages are released with the last reference to it.

    The file is held open: it may leave its folder.

    Raises
    ------
    OSError, ValueError, SafetensorError
        It cannot be read, or is not such a file.
    """

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="numpy"):  # which compares the header with the file's size
            self._file = path.open("rb")
        length = int.from_bytes(self._file.read(LENGTH_BYTES), "little")
        header: dict[str, Any] = json.loads(self._file.read(length))
        self._entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        self._start = LENGTH_BYTES + length

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        return mapped(self._file, NAMES[entry["dtype"]], entry["shape"], self._start + entry["data_offsets"][0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def mapped(file: Any, dtype: Any, shape: tuple[int, ...], offset: int) -> Array:
    """Map part of an open file as an array, which cannot be written to."""
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(file, dtype, "r", offset, tuple(shape)))


def write_tensors(path: Path, tensors: Stored) -> None:
    """Write a file, to the bytes that `safetensors.numpy.save_file` gives."""
    described = {name: (tensors[name].dtype.name, tensors[name].shape, tensors[name].nbytes) for name in tensors}
    order, header, end = list(TYPES), {}, 0
    names = sorted(described, key=lambda name: (order.index(described[name][0]), name))
    for name in names:
        dtype, shape, size = described[name]
        header[name] = {"dtype": TYPES[dtype], "shape": shape, "data_offsets": [end, end + size]}
        end += size
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(content).to_bytes(LENGTH_BYTES, "little") + content)
        for name in names:
            write_array(file, tensors[name])


def write_array(file: Any, values: Array) -> None:
    """Write values, little-endian in C order; pages of a mapped file are released."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    file.write(little.reshape(-1).view(np.uint8).data)
    release_pages(values)


CONFIG = "config.json"
TENSORS = "model.safetensors"
LOADED_BYTES = 64 * 2**20
"""Files up to this size are read at once."""

Tensors = dict[str, Array]


def save_weights(folder: Path, config: dict[str, Any], tensors: Stored) -> str:
    """Write a model's config and tensors as one folder, atomically, and return the folder's digest.

    Parameters
    ----------
    folder : replaced as a whole if it is there
    config : JSON-able dict
    tensors : name to array
    """
    with staged_folder(folder) as building:
        write_json(building / CONFIG, config)
        write_tensors(building / TENSORS, tensors)
    return digest_folder(folder)


def load_weights(folder: Path) -> tuple[dict[str, Any], Stored]:
    """Read what `save_weights` wrote; the tensors of a large file are read when they are asked for.

    Raises `ModelError`: the folder is not a model of this project, or its tensors are damaged.
    """
    file = folder / TENSORS
    try:
        config = read_json(folder / CONFIG)
        return config, load_file(file) if file.stat().st_size <= LOADED_BYTES else TensorFile(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: not a model of this project ({error}); expected {CONFIG} and {TENSORS}; train it again"
        ) from error


def writable(tensors: Stored) -> Tensors:
    """Return tensors that may be written to, as torch asks for; those of a file are read."""
    return {name: np.require(values, requirements="W") for name, values in tensors.items()}


def common(widths: list[int]) -> int:
    """Return the one width that all subjects have, or -1 where they differ."""
    return widths[0] if len(set(widths)) == 1 else -1


def prefixed(tensors: Stored, prefix: str) -> Tensors:
    """Return the tensors whose names begin with ``prefix.``, by the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensors[name] for name in tensors if name.startswith(start)}


MEMORY_BYTES = 64 * 2**20
"""How much of a part's tensors is kept in memory."""
SPILL_ALIGNMENT = 64  # bytes: where tensors begin

T = TypeVar("T")


class SpillingTensorStore(Mapping[str, Array]):
    """Tensors by name: the first ones in memory, those beyond `MEMORY_BYTES` in an unnamed temporary file.

    The file is gone with the store, however the process ends. A tensor in it is mapped anew at every access, and its
    pages are released with the last reference to it.

    Parameters
    ----------
    folder : where the file lies; the system's place for temporary files by default
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: Any = None
        self._in_memory: dict[str, Array] = {}
        self._on_disk: dict[str, tuple[str, tuple[int, ...], int]] = {}
        self._free = MEMORY_BYTES

    def put(self, tensors: Stored) -> None:
        """Add tensors.

        Raises `NoSpace`: the disk is full.
        """
        for name, values in tensors.items():
            if values.nbytes <= self._free:
                self._in_memory[name] = values
                self._free -= values.nbytes
            else:
                self._put_on_disk(name, values)

    def _put_on_disk(self, name: str, values: Array) -> None:
        folder = self._folder or Path(tempfile.gettempdir())
        with disk_explained(folder):
            if self._file is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the store
            start = -(-self._file.seek(0, 2) // SPILL_ALIGNMENT) * SPILL_ALIGNMENT
            self._file.seek(start)
            write_array(self._file, values)
            self._file.flush()
        self._on_disk[name] = values.dtype.name, values.shape, start

    def __getitem__(self, name: str) -> Array:
        if name in self._in_memory:
            return self._in_memory[name]
        dtype, shape, start = self._on_disk[name]
        return mapped(self._file, dtype, shape, start)

    def __iter__(self) -> Iterator[str]:
        yield from self._in_memory
        yield from self._on_disk

    def __len__(self) -> int:
        return len(self._in_memory) + len(self._on_disk)


class LazyMapping(Mapping[str, T]):
    """Values that are made at every access and not kept, as each may be large.

    Parameters
    ----------
    keys : list of str, such as subjects
    make : returns the value of one key
    """

    def __init__(self, keys: list[str], make: Callable[[str], T]) -> None:
        self._keys, self._make = keys, make

    def __getitem__(self, key: str) -> T:
        if key not in self._keys:
            raise KeyError(key)
        return self._make(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
