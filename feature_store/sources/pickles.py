"""Reads pickles of plain values, numpy arrays and nibabel images, and refuses every other before its code can run.

A pickle names functions and calls them. Here each name resolves to a stand-in from one short table, so nothing is
imported on a file's behalf; the stand-ins build numeric and text arrays only, because numpy itself can be made to read
foreign memory by an array of Python objects over raw bytes. A stand-in takes no attributes from a file, so that one
file cannot change how the next is read. Lengths in a file are checked against its size before memory is taken.

`PickledImage` stands for a nibabel image, so that reading one runs nothing of nibabel's and opens no file: only its
voxels and its affine are taken. Header, extensions, file names and all else that its state holds are dropped unread.
"""

import os
import pickle
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from core.errors import SourceError, SourceMissing


class Dropped:
    """Stands for an object whose content is of no concern: a header, a file name, an array left in a file."""

    __slots__ = ()

    def __init__(self, *_: Any) -> None:
        raise pickle.UnpicklingError("a part of an image that is called")

    def __setstate__(self, state: Any) -> None:
        """Take nothing from a pickled state."""


class DroppedList(list[Any]):
    """Stands for `Nifti1Extensions`, a list of header extensions."""

    __slots__ = ()

    def __init__(self, *_: Any) -> None:
        raise pickle.UnpicklingError("a part of an image that is called")

    def __setstate__(self, state: Any) -> None:
        """Take nothing from a pickled state."""


class PickledImage:
    """An image as a pickle holds it."""

    __slots__ = ("affine", "data")

    data: NDArray[Any] | None
    """The voxels, or None where the image only names a file."""
    affine: NDArray[np.float64] | None
    """From voxel indices to mm, (4, 4), or None."""

    def __init__(self, *_: Any) -> None:
        raise pickle.UnpicklingError("an image that is called")

    def __new__(cls, *_: Any) -> "PickledImage":
        """Make an image that holds nothing yet, as unpickling does before it hands over the state."""
        image = super().__new__(cls)
        image.data = image.affine = None
        return image

    def __setstate__(self, state: Any) -> None:
        """Take voxels and affine from the state of a `nibabel.Nifti1Image`."""
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an image without the state of one")
        voxels = [state.get(key) for key in ("_dataobj", "_data_cache", "_fdata_cache")]
        self.data = next((np.asarray(array) for array in voxels if _is_numeric(array)), None)
        affine = state.get("_affine")
        if isinstance(affine, np.ndarray) and _is_numeric(affine) and affine.shape == (4, 4):
            self.affine = np.asarray(affine, dtype=np.float64)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the voxels, or None where the image only names a file."""
        return None if self.data is None else self.data.shape

    def voxels(self, where: Path) -> NDArray[Any]:
        """Return the voxels of an image in the pickle `where`; raises `SourceError` where it only names a file."""
        if self.data is None:
            raise SourceError(
                f"{where}: its image names a file and holds no voxels, expected the voxels themselves; a file that a "
                "pickle names is never opened; fetch the file again"
            )
        return self.data


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


IMAGE_PARTS: dict[tuple[str, str], type[Any]] = {
    ("nibabel.nifti1", "Nifti1Image"): PickledImage,
    ("nibabel.nifti1", "Nifti1Pair"): PickledImage,
    ("nibabel.nifti1", "Nifti1Extensions"): DroppedList,
    **{
        ("nibabel.nifti1", name): Dropped
        for name in ("Nifti1Header", "Nifti1PairHeader", "Nifti1Extension", "NiftiExtension")
    },
    ("nibabel.fileholders", "FileHolder"): Dropped,
    ("nibabel.arrayproxy", "ArrayProxy"): Dropped,
}
"""The stand-in of each class that a pickled image names; all are made without a call and given their state."""


def rebuild(kind: Any, base: Any, content: Any) -> Any:
    """Stand for `copyreg._reconstructor`, by which protocols 0 and 1 make an object without a call."""
    del base, content
    if not any(kind is known for known in IMAGE_PARTS.values()):
        raise pickle.UnpicklingError("an object of a class that is not read")
    return kind.__new__(kind)


_KIND = re.compile(r"[<>=|]?(?:[biufcSU][1-9]\d*|\?)")  # of no bytes an array may claim any shape
_OPAQUE = re.compile(r"\|?V[1-9]\d*")

_SCALARS = (type(None), bool, int, float, complex, str, bytes, np.generic)
_PLAIN = (*_SCALARS, PickledImage)


class _Dtype:
    """Stands for `numpy.dtype`: numeric and text types, of whose pickled state only the byte order is taken.

    Headers of images are of structured types: such a type is bytes of a length, and its fields are not looked at.
    """

    __slots__ = ("dtype",)

    def __init__(self, kind: str, *_: Any) -> None:
        if not isinstance(kind, str) or not (_KIND.fullmatch(kind) or _OPAQUE.fullmatch(kind)):
            raise pickle.UnpicklingError(f"arrays of type {_shown(kind)} are not read")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">") and self.dtype.kind != "V":
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """An array whose pickled state names its type by `_Dtype`."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, kind, fortran, raw = state
        super().__setstate__((version, shape, _plain(kind), fortran, raw))


class _Marker:
    """Stands for a class that a pickle names as an argument and need not call."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a class with a state")


class _Function:
    """Stands for a function that a pickle may call."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function with a state")


_ARRAY_CLASS = _Marker()


def _shown(value: Any) -> str:
    """Return a value for a message; tuples that hold each other twice may be written out without end."""
    return repr(value) if isinstance(value, str) else type(value).__name__


def _plain(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _Dtype):
        raise pickle.UnpicklingError("an array without a numpy type")
    return kind.dtype


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _ARRAY_CLASS:
        raise pickle.UnpicklingError("an array of another class than numpy's")
    return _Array((0,), dtype=np.int8)


def _frombuffer(buffer: bytes, kind: Any, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"an array in order {_shown(order)}")
    flat = np.frombuffer(buffer, dtype=_plain(kind))
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: Any, raw: bytes) -> Any:
    return np.frombuffer(raw, dtype=_plain(kind), count=1)[0]


def _bytes_of(text: str, encoding: str) -> bytes:
    """Stand for `_codecs.encode`, by which protocols 0 to 2 write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {_shown(encoding)}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand for `bytes`, by which protocols 0 to 2 write empty ones."""
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "memmap"): _ARRAY_CLASS,  # an image's cached voxels; its pickle holds the values themselves
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Function(_bytes_of),
    ("__builtin__", "bytes"): _Function(_no_bytes),
    ("__builtin__", "object"): _Marker(),
    ("__builtin__", "list"): _Marker(),
    ("copy_reg", "_reconstructor"): _Function(rebuild),
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")  # numpy 1 and numpy 2
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Function(_reconstruct)),
            ("multiarray", "scalar", _Function(_scalar)),
            ("numeric", "_frombuffer", _Function(_frombuffer)),
            ("memmap", "memmap", _ARRAY_CLASS),
        )
    },
    **IMAGE_PARTS,
}


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not in the table."""


class _Bounded:
    """A file that refuses to read more than it has left, for which Python would reserve memory first."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = os.fstat(file.fileno()).st_size

    def read(self, count: int) -> bytes:
        """Return so many bytes."""
        if count > self._left:
            raise pickle.UnpicklingError(f"{count:,} bytes are announced and {self._left:,} left")
        self._left -= count
        return self._file.read(count)

    def readline(self) -> bytes:
        """Return the bytes up to the next line break."""
        line = self._file.readline()
        self._left -= len(line)
        return line


def _check_keys(keys: Iterable[Any]) -> None:
    """Raise unless keys of dictionaries and members of sets are plain, or tuples of plain values.

    Tuples that hold each other twice take twice as long to hash with each level.
    """
    for key in keys:
        for value in key if isinstance(key, tuple) else (key,):
            if not isinstance(value, _SCALARS):
                raise pickle.UnpicklingError(f"a key that holds {type(value).__name__}")


class _Unpickler(pickle._Unpickler):
    """The unpickler written in Python: the one in C reserves memory up to the highest memo index that a file names."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def load_bytearray8(self) -> None:
        """Read before memory is allocated."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_dict(self) -> None:
        """Make a dictionary of keys and values in turn."""
        items = self.pop_mark()
        self.append({})
        self._set(items)

    dispatch[pickle.DICT[0]] = load_dict

    def load_setitem(self) -> None:
        """Put one value into a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Put several values into a dictionary."""
        self._set(self.pop_mark())

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_additems(self) -> None:
        """Put several members into a set."""
        members = self.pop_mark()
        self._check_top(set)
        _check_keys(members)
        self.stack[-1].update(members)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_frozenset(self) -> None:
        """Make a frozen set."""
        members = self.pop_mark()
        _check_keys(members)
        self.append(frozenset(members))

    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def _set(self, items: list[Any]) -> None:
        self._check_top(dict)
        _check_keys(items[::2])
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _check_top(self, kind: type[Any]) -> None:
        # Arrays take items too, and would look for indices in a key of any depth.
        if type(self.stack[-1]) is not kind:
            raise pickle.UnpicklingError(f"items of a {type(self.stack[-1]).__name__}")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def load_pickle(path: Path) -> Any:
    """Read a pickle of plain values, numpy arrays and nibabel images, written by numpy 1 or 2 at any protocol.

    Returns
    -------
    dict, list, tuple, str, bytes, number, array of numbers or text, `PickledImage`, or None; nested as the file has
    them. Large arrays are views of the bytes that were read, so reading takes no more memory than the file.

    Raises
    ------
    SourceMissing
        The file is absent.
    SourceError
        The file is cut short or no pickle, or names anything but arrays and images; nothing of it was executed.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(_Bounded(file)).load()
        _check_finished(content)
        return content
    except FileNotFoundError:
        raise SourceMissing(f"{path}: no such file; expected a pickle; check source.path") from None
    except _Refused as error:
        raise SourceError(
            f"{path}: refused: the pickle asks for '{_one_line(error)}', expected numpy arrays and nibabel images "
            "only; nothing of it was executed; fetch the file from where it was published"
        ) from None
    except Exception as error:  # a broken pickle may fail in any way its bytes happen to spell
        raise SourceError(
            f"{path}: cut short or no pickle of arrays ({_one_line(error)}; {_size(path)}); fetch the file again"
        ) from error


def _check_finished(content: Any) -> None:
    """Raise unless a pickle's content is what `load_pickle` promises, with no stand-in or opaque bytes left in it."""
    waiting, met = [content], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif isinstance(value, np.ndarray) and value.dtype.kind == "V":
            raise pickle.UnpicklingError(f"arrays of type '{value.dtype.str[1:]}' are not read")
        elif not isinstance(value, (*_PLAIN, np.ndarray, bytearray)):
            raise pickle.UnpicklingError("a part of an array or an image that stands alone")


def _one_line(error: Exception) -> str:
    """Return an error on one short line: a hostile file may spell names with line breaks, and of any length."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return text[:120] or type(error).__name__


def _size(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes" if path.is_file() else "not a file"
