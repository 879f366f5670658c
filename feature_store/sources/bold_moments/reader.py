"""What the readers of BOLD Moments share: rows read on demand, where voxels lie, their regions and noise ceilings."""

import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray

from core.errors import SourceError, SourceMissing
from core.files import require_space
from feature_store.sources.base import NO_ROI, ROI_SEPARATOR, SPLITS, Recording, Split, declared_trials, present
from feature_store.sources.bold_moments import layout
from feature_store.sources.bold_moments.layout import Counts
from feature_store.sources.pickles import PickledImage, load_pickle

Floats = NDArray[np.float32]
Stored = NDArray[np.floating[Any]]
"""An array as files hold it: (stimulus, repetition, voxel)."""
Indices = NDArray[np.int64]
Loaded = TypeVar("Loaded")
NAME_OTHER_REGIONS = "download it, or name the regions that are there in source.rois"
"""What to do about a region's file that is absent."""


class Reader(ABC):
    """Reads one kind of responses of the dataset in a folder; ROIs are named as files name them."""

    folder: Path
    """Where that kind's subjects lie."""

    def __init__(self, path: Path, counts: Counts, rois: tuple[str, ...]) -> None:
        self.path = path
        self.counts = counts
        self.rois = rois
        self.published = counts == Counts()  # its voxel counts are known then

    def subjects(self) -> list[str]:
        """Return the subjects of whom there are responses, sorted."""
        return sorted(entry.name for entry in self.folder.glob("sub-*"))

    @abstractmethod
    def responses(self, subject: str) -> Recording:
        """Return one subject's responses."""

    @abstractmethod
    def files(self, subject: str) -> list[Path]:
        """Return every file that `responses` reads for a subject."""

    def trials(self) -> dict[Split, pd.DataFrame]:
        """Return the trials of both splits: stimulus by stimulus, then by repetition."""
        return {split: declared_trials(self.counts.stimuli(split), self.counts.repeats(split)) for split in SPLITS}

    def needed(self, subject: str, relative: list[str], remedy: str) -> list[Path]:
        """Return the paths of a subject's files; raises `SourceMissing` for one that is absent, with the remedy."""
        folder = self.folder / subject
        if not folder.is_dir():
            raise SourceMissing(f"{folder}: no such subject; download it or fix source.subjects")
        return [present(self.path / name, remedy, or_run=layout.DOWNLOAD) for name in relative]

    def there(self, relative: str) -> Path | None:
        """Return the path of an optional file, or None where it is absent or a link that was not fetched."""
        path = self.path / relative
        return path if path.is_file() else None

    def read_pair(self, path: Path, voxels: int | None) -> dict[Split, Stored]:
        """Read the form in which a region's responses are published: one array per split under `BETAS_KEYS`.

        Raises `SourceError` where the file is no such pair, its shapes are not as declared (of as many `voxels` as the
        training array has where that is not known), or none of its values is finite.
        """
        content = load_pickle(path)
        if not isinstance(content, dict) or (absent := [k for k in layout.BETAS_KEYS.values() if k not in content]):
            found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            lacking = ", ".join(layout.BETAS_KEYS.values() if not isinstance(content, dict) else absent)
            raise SourceError(f"{path}: lacks {lacking} (found: {found}); fetch the file again")
        arrays = {split: np.asarray(content[key]) for split, key in layout.BETAS_KEYS.items()}
        if voxels is None:
            voxels = arrays["train"].shape[-1] if arrays["train"].ndim else 0
        for split, array in arrays.items():
            self.check_shape(path, split, array, voxels, layout.BETAS_KEYS[split])
            check_finite(path, array, layout.BETAS_KEYS[split])
        return arrays

    def check_shape(self, path: Path, split: Split, array: NDArray[Any], voxels: int, what: str) -> None:
        """Raise `SourceError` unless an array is (stimulus, repetition, voxel) as `counts` declares, of floats."""
        expected = (len(self.counts.stimuli(split)), self.counts.repeats(split), voxels)
        if array.shape != expected or array.dtype.kind != "f":
            raise SourceError(
                f"{path}: {what} has shape {array.shape} of {array.dtype}, expected {expected} of floats "
                "(stimulus, repetition, voxel); fix source.counts or fetch the file again"
            )


def check_finite(path: Path, array: Stored, what: str, columns: NDArray[np.int64] | None = None) -> None:
    """Raise `SourceError` where no value is finite; looks stimulus by stimulus and stops at the first that has one."""
    if not any(np.isfinite(betas if columns is None else betas[:, columns]).any() for betas in array):
        raise SourceError(f"{path}: {what} holds no finite value, expected responses; fetch the file again")


def rows_of(array: Stored, start: int, stop: int, columns: NDArray[np.int64] | None = None) -> Stored:
    """Return some trials of an array (stimulus, repetition, voxel) as (trial, voxel); no other part of it is copied.

    What is returned may be a view of the array, in its own type.
    """
    repeats = array.shape[1]
    first = start // repeats
    part = array[first : -(-stop // repeats)]
    if columns is not None:
        part = part[:, :, columns]
    return part.reshape(-1, part.shape[-1])[start - first * repeats : stop - first * repeats]


def allocate(shape: tuple[int, ...]) -> Floats:
    """Return an array to fill: in memory, or in an unnamed temporary file where it would take most of the free memory.

    Raises `NoSpace` where it fits neither into memory nor onto the disk of temporary files.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    if size <= psutil.virtual_memory().available // 2:
        return np.empty(shape, dtype=np.float32)
    require_space(Path(tempfile.gettempdir()), size)
    with tempfile.TemporaryFile() as file:  # the map keeps it until the array is dropped
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)


def side_by_side(columns: Indices | None, arrays: list[Stored], start: int, stop: int) -> Floats:
    """Return the trials from `start` up to `stop` of arrays (stimulus, repetition, voxel): (trial, voxel) float32.

    Of each array all voxels are taken, or `columns`; only these values are copied.
    """
    return np.concatenate([rows_of(array, start, stop, columns) for array in arrays], axis=1, dtype=np.float32)


class RowsOnDemand(Generic[Loaded]):
    """Rows of one split, read from disk when first asked for and kept until this object is dropped.

    Parameters
    ----------
    shape : (trial, voxel) or (trial, time, voxel)
    load : reads the split
    cut : returns of what was loaded the trials from a start up to a stop, as float32
    """

    def __init__(
        self, shape: tuple[int, ...], load: Callable[[], Loaded], cut: Callable[[Loaded, int, int], Floats]
    ) -> None:
        self.shape = shape
        self._load = cache(load)
        self._cut = cut

    def __getitem__(self, rows: slice) -> Floats:
        """Return some trials as float32."""
        wanted = range(self.shape[0])[rows]
        if not wanted:
            return np.empty((0, *self.shape[1:]), dtype=np.float32)
        start = min(wanted)
        block = self._cut(self._load(), start, max(wanted) + 1)
        return block if wanted.step == 1 else block[np.asarray(wanted) - start]


@dataclass(frozen=True)
class Places:
    """Voxels of a volume: their indices (voxel, 3), and the affine (4, 4) from these to mm."""

    ijk: Indices
    affine: NDArray[np.float64]

    @property
    def xyz(self) -> NDArray[np.float64]:
        """The voxels' centres in mm, (voxel, 3)."""
        return np.asarray(self.ijk @ self.affine[:3, :3].T + self.affine[:3, 3])


@dataclass(frozen=True)
class Mask:
    """The voxels of a space: those where a mask image is not zero, in C order, which is the order of its betas."""

    shape: tuple[int, ...]
    flat: Indices
    """Index into the flattened volume, ascending."""
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, image: PickledImage, where: Path) -> "Mask":
        """Return the mask of an image from a pickle, whose path is for the messages."""
        if image.affine is None:
            raise SourceError(f"{where}: its mask image has no affine, expected one of 4 × 4; fetch the file again")
        return cls._from(image.voxels(where), image.affine, where)

    @classmethod
    def _from(cls, data: NDArray[Any], affine: NDArray[np.float64], where: Path) -> "Mask":
        if data.ndim != 3:
            raise SourceError(f"{where}: a mask of shape {data.shape}, expected a volume; fetch the file again")
        return cls(data.shape, np.flatnonzero(np.nan_to_num(data)), affine)

    def __len__(self) -> int:
        return len(self.flat)

    def places(self, where: Path, count: int) -> Places:
        """Return where the mask's voxels lie, after checking their number against `count`."""
        if len(self) != count:
            raise SourceError(
                f"{where}: the mask holds {len(self):,} voxels and the responses {count:,}, expected the same; "
                "fetch the files again"
            )
        return Places(np.stack(np.unravel_index(self.flat, self.shape), axis=1), self.affine)

    def positions(self, ijk: Indices, where: Path) -> Indices:
        """Return the position of voxels among the mask's, which is their column in the betas of the space."""
        if len(ijk) and (ijk.min() < 0 or (ijk.max(axis=0) >= self.shape).any()):
            raise SourceError(f"{where}: its voxels lie outside the mask's {self.shape}; fetch the files again")
        flat = np.ravel_multi_index(tuple(ijk.T), self.shape)
        found = np.minimum(np.searchsorted(self.flat, flat), max(len(self) - 1, 0))
        outside = int((self.flat[found] != flat).sum()) if len(self) else len(flat)
        if outside:
            raise SourceError(
                f"{where}: {outside} of its {len(flat)} voxels lie outside the mask of the space; fetch the files again"
            )
        return np.asarray(found)


def read_mask(path: Path) -> Mask:
    """Read a mask from a NIfTI file; raises `SourceError` where it is no image of a volume."""
    try:
        image = nib.load(path)
        data, affine = np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel raises errors of any type for a broken header
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{path}: no NIfTI image ({reason}); fetch the file again") from error
    return Mask._from(data, affine, path)


def mask_files(reader: Reader, subject: str) -> list[Path]:
    """Return the masks of the MNI space that are there: the subject's own, then the group's."""
    found = [reader.there(name.format(subject=subject)) for name in (layout.SUBJECT_MASK, layout.GROUP_MASK)]
    return [path for path in found if path is not None]


def find_mask(count: int, where: Path, image: PickledImage | None, files: list[Path], what: str) -> Mask:
    """Return the mask that has as many voxels as an array: the image beside it, or one of the mask files."""
    beside = [Mask.of(image, where)] if image is not None and (image.data is not None or not files) else []
    found = []
    for mask in (*beside, *map(read_mask, files)):
        if len(mask) == count:
            return mask
        found.append(f"{len(mask):,}")
    raise SourceError(
        f"{where}: {count:,} {what}, and masks of {' and '.join(found) or 'no'} voxels, expected as many; "
        "fetch the file again, or the subject's mask into GLM/mask"
    )


def read_roi(path: Path, size: int | None = None) -> Places:
    """Read a region's index file: voxel indices (n, 3), index into the flattened mask, mask image.

    The index may count the voxels of the volume or those of the mask; either must agree with the voxel indices.
    Raises `SourceError` where the file is absent, has not `size` voxels, or its parts contradict each other.
    """
    content = load_pickle(path)
    if not isinstance(content, list | tuple) or len(content) < 3 or not isinstance(content[2], PickledImage):
        raise SourceError(f"{path}: expected voxel indices, flat indices and a mask image; fetch the file again")
    ijk, index, image = np.asarray(content[0]), np.asarray(content[1]).reshape(-1), content[2]
    numeric = ijk.dtype.kind in "iuf" and index.dtype.kind in "iuf"
    if ijk.ndim != 2 or ijk.shape[1] != 3 or index.shape != ijk.shape[:1] or not numeric:
        raise SourceError(
            f"{path}: voxel indices of shape {ijk.shape} and flat ones of {index.shape}, expected (n, 3) and (n,); "
            "fetch the file again"
        )
    if size is not None and len(ijk) != size:
        raise SourceError(f"{path}: {len(ijk)} voxels and {size} in the region's betas; fetch both files again")
    mask = Mask.of(image, path)
    whole = ijk.astype(np.int64)
    _check_index(path, whole, index, mask)
    return Places(whole, mask.affine)


def _check_index(path: Path, ijk: Indices, index: NDArray[Any], mask: Mask) -> None:
    inside = len(ijk) == 0 or (ijk.min() >= 0 and bool((ijk.max(axis=0) < mask.shape).all()))
    if inside:
        flat = np.ravel_multi_index(tuple(ijk.T), mask.shape)
        if np.array_equal(index, flat):
            return
        known = index[(index >= 0) & (index < len(mask))].astype(np.int64)
        if len(known) == len(index) and np.array_equal(mask.flat[known], flat):
            return
    raise SourceError(f"{path}: flat indices and voxel indices name different voxels; fetch the file again")


def join_places(parts: list[Places], files: list[Path]) -> Places:
    """Join the places of several regions, which must be of one space; their files are for the message."""
    for part, path in zip(parts, files, strict=True):
        if not np.allclose(part.affine, parts[0].affine):
            raise SourceError(f"{path}: another affine than in {files[0].name}, expected one space; fetch both again")
    return Places(np.concatenate([part.ijk for part in parts]), parts[0].affine)


def with_places(voxels: pd.DataFrame, places: Places) -> pd.DataFrame:
    """Add i, j, k and x, y, z (mm), and the hemisphere where no region's name gives it: x < 0 is left."""
    xyz = places.xyz
    side = np.select([xyz[:, 0] < 0, xyz[:, 0] > 0], ["l", "r"], default="")
    named = voxels["hemisphere"] if "hemisphere" in voxels else pd.Series([""] * len(voxels))
    columns = dict(zip("ijk", places.ijk.T.astype(np.int32), strict=True))
    columns |= dict(zip("xyz", xyz.T.astype(np.float32), strict=True))
    return voxels.assign(hemisphere=named.where(named != "", side), **columns)


def region_names(count: int, regions: Iterable[tuple[str, Indices]]) -> list[str]:
    """Return each voxel's regions, joined in the order given, or `NO_ROI`."""
    names = [""] * count
    for roi, columns in regions:
        for column in columns.tolist():
            names[column] = f"{names[column]}{ROI_SEPARATOR}{roi}" if names[column] else roi
    return [name or NO_ROI for name in names]


class Ceilings:
    """The noise ceilings of one space, as far as they were fetched.

    Of these the ncsnr is taken, which no number of repeats changes: the sd of the signal over the sd of one trial's
    noise, per voxel (Allen et al. 2022).
    """

    def __init__(self, reader: Reader, space: str) -> None:
        self._reader = reader
        self._space = space

    def columns(self, subject: str) -> dict[str, list[Path]]:
        """Return the columns whose files are there, and the files of each: one, or one per hemisphere of fsaverage."""
        found = {f"ncsnr_{split}_published": self._files(subject, split) for split in SPLITS}
        return {column: paths for column, paths in found.items() if paths}

    def _files(self, subject: str, split: Split) -> list[Path]:
        template = layout.CEILING_HEMISPHERE if self._space == "fsaverage" else layout.CEILING
        paths = []
        for hemisphere in layout.HEMISPHERES if self._space == "fsaverage" else layout.HEMISPHERES[:1]:
            names = {"space": self._space, "subject": subject, "split": split, "hemisphere": hemisphere}
            tried = (self._reader.there(template.format(**names, n=n)) for n in (self._reader.counts.repeats(split), 1))
            if (path := next((file for file in tried if file is not None), None)) is None:
                return []
            paths.append(path)
        return paths

    def files(self, subject: str) -> list[Path]:
        """Return the files behind `columns`."""
        return [path for paths in self.columns(subject).values() for path in paths]

    def read(self, path: Path, voxels: int | None = None) -> tuple[Floats, PickledImage | None]:
        """Return a file's ncsnr, of so many voxels, and the mask image beside it where there is one."""
        content = load_pickle(path)
        if not isinstance(content, list | tuple) or len(content) < 2 or not isinstance(content[0], np.ndarray):
            raise SourceError(f"{path}: expected ncsnr and noise ceiling, an array each; fetch the file again")
        ncsnr = np.asarray(content[0]).reshape(-1)
        if ncsnr.dtype.kind != "f" or (voxels is not None and len(ncsnr) != voxels):
            raise SourceError(
                f"{path}: ncsnr of {len(ncsnr):,} voxels ({ncsnr.dtype}), expected {voxels or 'some'} as the betas "
                "have; fetch the file again"
            )
        image = next((part for part in content[2:] if isinstance(part, PickledImage)), None)
        return ncsnr.astype(np.float32), image
