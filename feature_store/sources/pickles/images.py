"""Stands for what a pickled nibabel image is made of, so that reading one runs nothing of nibabel's and opens no file.

Of an image only its voxels and its affine are taken. Header, extensions, file names and whatever else the state holds
are dropped unread; a file that the image names is never opened.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import SourceError


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
    """An image as a pickle holds it.

    Attributes
    ----------
    data : array of the image's voxels, or None where the image only names a file
    affine : (4, 4) array from voxel indices to mm, or None
    """

    __slots__ = ("affine", "data")

    data: NDArray[Any] | None
    affine: NDArray[np.float64] | None

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
        held = [state.get(key) for key in ("_dataobj", "_data_cache", "_fdata_cache")]
        self.data = next((np.asarray(one) for one in held if _is_numeric(one)), None)
        affine = state.get("_affine")
        if isinstance(affine, np.ndarray) and _is_numeric(affine) and affine.shape == (4, 4):
            self.affine = np.asarray(affine, dtype=np.float64)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the voxels, or None where the image only names a file."""
        return None if self.data is None else self.data.shape

    def voxels(self, where: Path) -> NDArray[Any]:
        """Return the voxels.

        Parameters
        ----------
        where : the pickle, for the message

        Raises
        ------
        SourceError
            The image names a file and holds no data; that file is not opened on a pickle's behalf.
        """
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
