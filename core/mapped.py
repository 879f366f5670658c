"""Files mapped into memory: the pages that were touched count as the process's own until they are let go of."""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def let_go(values: NDArray[Any]) -> None:
    """Take a mapped file's pages out of the process's memory; touched again, they come from the file again.

    Nothing is lost: an array that is not mapped, or that may be written to, is left alone, and so is everything where
    the system cannot do it.
    """
    owner: Any = values
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and not values.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
