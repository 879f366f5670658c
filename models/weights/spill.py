"""Where a model that is being fitted keeps what it has of each subject: in memory while that is little, else on disk.

A part of ten whole brains may have gigabytes, of which one subject's are used at a time.
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


class Shelf(Mapping[str, Array]):
    """Tensors by name: the first ones in memory, those beyond `MEMORY_BYTES` in a file that nobody else sees.

    The file is gone when the shelf is, however the process ends. A tensor that lies there is mapped anew whenever it is
    asked for, and what was touched of it is let go of once nobody refers to it.

    Parameters
    ----------
    folder : Path, optional
        Where the file lies; the system's place for temporary files by default.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: Any = None
        self._inside: dict[str, Array] = {}
        self._outside: dict[str, tuple[str, tuple[int, ...], int]] = {}
        self._free = MEMORY_BYTES

    def put(self, tensors: Stored) -> None:
        """Keep some more tensors.

        Raises
        ------
        NoSpace
            The disk is full.
        """
        for name, values in tensors.items():
            if values.nbytes <= self._free:
                self._inside[name] = values
                self._free -= values.nbytes
            else:
                self._put_outside(name, values)

    def _put_outside(self, name: str, values: Array) -> None:
        folder = self._folder or Path(tempfile.gettempdir())
        with disk_explained(folder):
            if self._file is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the shelf
            start = -(-self._file.seek(0, 2) // ALIGNMENT) * ALIGNMENT
            self._file.seek(start)
            write_array(self._file, values)
            self._file.flush()
        self._outside[name] = values.dtype.name, values.shape, start

    def __getitem__(self, name: str) -> Array:
        if name in self._inside:
            return self._inside[name]
        dtype, shape, start = self._outside[name]
        return mapped(self._file, dtype, shape, start)

    def __iter__(self) -> Iterator[str]:
        yield from self._inside
        yield from self._outside

    def __len__(self) -> int:
        return len(self._inside) + len(self._outside)


class BySubject(Mapping[str, T]):
    """Something of each subject that is made whenever it is asked for and not kept, as it may be large.

    Parameters
    ----------
    subjects : list of str
    make : returns that of one subject
    """

    def __init__(self, subjects: list[str], make: Callable[[str], T]) -> None:
        self._subjects, self._make = subjects, make

    def __getitem__(self, subject: str) -> T:
        if subject not in self._subjects:
            raise KeyError(subject)
        return self._make(subject)

    def __iter__(self) -> Iterator[str]:
        return iter(self._subjects)

    def __len__(self) -> int:
        return len(self._subjects)
