"""Chooses voxels by the regions that a table names for each."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.config import nearest
from core.errors import StoreError
from feature_store.sources.base import ROI_SEPARATOR


def voxels_in(regions: Iterable[object], rois: Sequence[str], where: object) -> NDArray[np.int64]:
    """Return the positions of the voxels that lie in some ROIs, ascending.

    Parameters
    ----------
    regions : one a voxel, joined by `ROI_SEPARATOR` where it has several
    rois : names; one that is no region stands for its two sides, `EBA` for `lEBA` and `rEBA`
    where : whence the regions come, for messages

    Raises
    ------
    StoreError
        No ROI is named, or no voxel lies in one; the nearest known name is shown.
    """
    if not rois:
        raise StoreError(f"{where}: no ROI is named; name at least one, or leave 'rois' out for all voxels")
    of_voxels = [set(str(names).split(ROI_SEPARATOR)) for names in regions]
    known = sorted(set().union(*of_voxels))
    wanted: set[str] = set()
    for roi in rois:
        named = [roi] if roi in known else [name for name in (f"l{roi}", f"r{roi}") if name in known]
        if not named:
            raise StoreError(f"{where}: has no ROI '{roi}'{nearest(roi, known)}")
        wanted.update(named)
    return np.flatnonzero([not names.isdisjoint(wanted) for names in of_voxels])
