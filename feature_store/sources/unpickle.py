"""Reads pickles that hold plain values and numpy arrays, and refuses every other before any of its code can run.

A pickle names functions and calls them. Here each name resolves to a stand-in from one short table, so nothing is
imported on a file's behalf; the stand-ins build numeric and text arrays only, because numpy itself can be made to read
foreign memory by an array of Python objects over raw bytes.
"""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import SourceError, SourceMissing

_KIND = re.compile(r"[<>=|]?(?:[biufcSU]\d+|\?)")


class _Dtype:
    """Stands for `numpy.dtype`: numeric and text types, of whose pickled state only the byte order is taken."""

    def __init__(self, kind: str, *_: Any) -> None:
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise pickle.UnpicklingError(f"arrays of type {kind!r} are not read")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """An array whose pickled state names its type by `_Dtype`."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, kind, fortran, raw = state
        super().__setstate__((version, shape, _plain(kind), fortran, raw))


class _Marker:
    """Stands for `numpy.ndarray`, which pickles name and need not call."""


def _plain(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _Dtype):
        raise pickle.UnpicklingError("an array without a numpy type")
    return kind.dtype


def _reconstruct(*_: Any) -> _Array:
    return _Array((0,), dtype=np.int8)


def _frombuffer(buffer: bytes, kind: Any, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"an array in order {order!r}")
    flat = np.frombuffer(buffer, dtype=_plain(kind))
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: Any, raw: bytes) -> Any:
    return np.frombuffer(raw, dtype=_plain(kind), count=1)[0]


def _bytes_of(text: str, encoding: str) -> bytes:
    """Stand for `_codecs.encode`, by which protocols 0 to 2 write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand for `bytes`, by which protocols 0 to 2 write empty ones."""
    return b""


_ALLOWED: dict[tuple[str, str], Callable[..., Any] | _Marker] = {
    ("numpy", "ndarray"): _Marker(),
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _bytes_of,
    ("__builtin__", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")  # numpy 1 and numpy 2
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not in the table."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def load_pickle(path: Path) -> Any:
    """Read a pickle of plain values and numpy arrays, written by numpy 1 or 2 at any protocol.

    Returns
    -------
    dict, list, tuple, str, bytes, number, array of numbers or text, or None; nested as the file has them

    Raises
    ------
    SourceMissing
        The file is absent.
    SourceError
        The file is cut short or no pickle, or names anything but numpy arrays; nothing of it was executed.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except FileNotFoundError:
        raise SourceMissing(f"{path}: no such file; expected a pickle; check source.path") from None
    except _Refused as error:
        raise SourceError(
            f"{path}: refused: the pickle asks for '{error}', expected numpy arrays only; "
            "nothing of it was executed; fetch the file from where it was published"
        ) from None
    except Exception as error:  # a broken pickle may fail in any way its bytes happen to spell
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(
            f"{path}: cut short or no pickle of arrays ({reason}; {path.stat().st_size:,} bytes); fetch the file again"
        ) from error
