"""Where a model that is being fitted keeps the tensors of its subjects: in memory while they are few, else on disk.

A part of ten whole brains may have gigabytes, of which one subject's are used at a time: `benchmarks/whole_brains.py`
limits the memory, and without the file training on ten subjects takes ten times what it takes on one.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from core.files import disk_explained
from models.weights.tensor_file import Array, Stored, mapped, write_array

MEMORY_BYTES = 64 * 2**20
"""How much of a part's tensors is kept in memory."""
ALIGNMENT = 64  # bytes: where tensors begin

T = TypeVar("T")


class SpillingTensorStore(Mapping[str, Array]):
    """Tensors by name: the first ones in memory, those beyond `MEMORY_BYTES` in an unnamed temporary file.

    The file is gone with the store, however the process ends. A tensor in it is mapped anew at every access, and its
    pages are released with the last reference to it.

    Parameters
    ----------
    folder : Path, optional
        Where the file lies; the system's place for temporary files by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: Any = None
        self._in_memory: dict[str, Array] = {}
        self._on_disk: dict[str, tuple[str, tuple[int, ...], int]] = {}
        self._free = MEMORY_BYTES

    def put(self, tensors: Stored) -> None:
        """Add tensors.

        Raises
        ------
        NoSpace
            The disk is full.
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
            start = -(-self._file.seek(0, 2) // ALIGNMENT) * ALIGNMENT
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
