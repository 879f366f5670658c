"""Reads responses that were never stored from a file that a user hands over, with the tables beside it.

A `.npy` array, a folder with `responses.npy`, or a NIfTI image of betas; `voxels.csv` and `trials.csv` as other sources
have them. Nothing here knows what an encoder was trained on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SourceError
from feature_store.sources.base import NAME, present, read_csv, whole_numbers
from feature_store.sources.bids.files import is_cifti
from feature_store.sources.bids.images import Grid, grid_of, open_image, read_values
from feature_store.sources.bold_moments.reader import read_mask

RESPONSES, TRIALS, VOXELS = "responses.npy", "trials.csv", "voxels.csv"
IMAGES = (".nii", ".nii.gz")
RUNS_CODE = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npz")
INDICES = ("i", "j", "k")


@dataclass(frozen=True)
class VoxelTable:
    """What a file lists of the voxels, one row each, with columns such as `roi`, `i`, `j` and `k`."""

    table: pd.DataFrame
    where: Path

    def indices(self) -> NDArray[np.int64] | None:
        """Return i, j and k of every voxel, (3, voxel), or None where they are not listed."""
        if not set(INDICES) <= set(self.table):
            return None
        return np.stack([whole_numbers(self.table[name], self.where).to_numpy() for name in INDICES])


def find_responses(path: Path) -> Path:
    """Return the file that holds the values; raises `SourceError` where there is none of a kind that is read."""
    if path.is_dir():
        within = sorted(file.parent.name for file in path.glob(f"[!.]*/{RESPONSES}"))
        advice = f"name a subject's folder, such as {path / within[0]}" if within else "name the file itself"
        return present(path / RESPONSES, advice)
    present(path, f"name a .npy file, a folder with {RESPONSES}, or a NIfTI image")
    name = path.name.lower()
    if is_cifti(path):
        raise SourceError(f"{path}: a CIFTI file, which is not read; save its values as .npy")
    if name.endswith(RUNS_CODE):
        raise SourceError(f"{path}: a {path.suffix} file can run code, is not read; save with numpy.save")
    if not name.endswith((".npy", *IMAGES)):
        raise SourceError(f"{path}: a '{path.suffix}' file, expected .npy or {' or '.join(IMAGES)}; use numpy.save")
    return path


def is_image(file: Path) -> bool:
    """Return whether a file is a NIfTI image, by its name."""
    return file.name.lower().endswith(IMAGES)


def suffix_of(file: Path) -> str:
    """Return a file's suffix, both parts of ``.nii.gz``."""
    return next((suffix for suffix in IMAGES if file.name.lower().endswith(suffix)), file.suffix)


def voxel_table(named: Path | None, beside: Path) -> VoxelTable | None:
    """Read the named table of voxels, else the one beside the file, None where there is none."""
    where = named or (beside if beside.is_file() else None)
    return None if where is None else VoxelTable(read_csv(where, []), where)


def masked_voxels(file: Path, mask: Path | None) -> VoxelTable | None:
    """Return the indices of the voxels where a mask of an image is not zero, in C order; None without a mask.

    Raises `SourceError` where the mask is absent or no image, or the file is none.
    """
    if mask is None:
        return None
    if not is_image(file):
        raise SourceError(f"{file}: a mask ({mask.name}) is for NIfTI images; leave it out, or give the image")
    inside = read_mask(present(mask, "name the mask of the study's voxels"))
    return VoxelTable(pd.DataFrame(dict(zip(INDICES, np.unravel_index(inside.flat, inside.shape), strict=True))), mask)


def read_array(file: Path) -> NDArray[Any]:
    """Map the array of a `.npy` file into memory; raises `SourceError` where it is no plain one of real numbers."""
    try:
        values: object = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises whatever a broken header leads it to
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if "pickle" in reason or "Python objects" in reason:
            reason = "it holds pickled objects, which can run code"
        raise SourceError(f"{file}: not a plain numpy array ({reason}); save numbers with numpy.save") from error
    if not isinstance(values, np.ndarray):
        raise SourceError(f"{file}: an archive of arrays (.npz), expected one array; save with numpy.save")
    _check_numbers(file, values.dtype)
    return values


def open_betas(file: Path) -> tuple[Grid, int]:
    """Return the grid of an image of betas, (x, y, z) of one trial or (x, y, z, trial), and its number of trials.

    Raises `SourceError` where it is no image, or not of real numbers in three or four dimensions.
    """
    image = open_image(file)
    _check_numbers(file, image.get_data_dtype())
    if len(image.shape) not in (3, 4):
        raise SourceError(f"{file}: has the shape {image.shape}; expected (x, y, z, trial), or (x, y, z) of one trial")
    return grid_of(image), image.shape[3] if len(image.shape) == 4 else 1


def read_betas(file: Path, indices: NDArray[np.int64]) -> NDArray[Any]:
    """Return the betas (trial, voxel) of an image at indices (3, voxel), all within its grid."""
    values = read_values(file)
    return np.asarray((values if values.ndim == 4 else values[..., None])[tuple(indices)].T)


def _check_numbers(file: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "fiu":
        raise SourceError(f"{file}: holds {dtype}, expected real numbers; save float32")


def trial_names(named: Path | None, file: Path, count: int) -> tuple[list[str], list[str]]:
    """Return the stimulus of every trial by the named table or `trials.csv`, else ``trial-0001``, …, and notes.

    Raises `SourceError` where the table has not one row a trial, or a name cannot be a file's.
    """
    numbers = [f"trial-{number:04d}" for number in range(1, count + 1)]
    where = named or file.parent / TRIALS
    if named is None and not where.is_file():
        return numbers, [f"no {TRIALS} beside {file.name}: trials are numbered, and none is averaged with another"]
    stimuli = list(read_csv(where, ["stimulus_id"])["stimulus_id"])
    if len(stimuli) != count:
        raise SourceError(f"{where}: has {len(stimuli)} rows and {file.name} {count} trials; name one stimulus a trial")
    for name in filter(None, stimuli):
        if not NAME.fullmatch(name):
            raise SourceError(f"{where}: stimulus '{name}' cannot name a file; use letters, digits, '.', '_' and '-'")
    return [name or number for name, number in zip(stimuli, numbers, strict=True)], []
