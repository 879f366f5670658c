"""Chooses the voxels of a subject's runs by a mask, and names their regions by an atlas."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import Config
from core.errors import SourceError
from core.progress import track
from feature_store.sources.base import NO_ROI, ROI_SEPARATOR
from feature_store.sources.bids.events import read_tsv
from feature_store.sources.bids.images import Grid, Scan, check_grid, grid_of, open_image, read_values
from feature_store.sources.tables import present

EVERYTHING = "none"
"""The mask that takes every voxel that varies."""
WHOLE_BRAIN = "brain"
"""The region of all voxels where there is no atlas."""

Mask = NDArray[np.bool_]


class AtlasConfig(Config):
    """Regions: an image whose voxels hold whole numbers, and what these mean."""

    image: str
    labels: str
    """A TSV with the columns ``index`` and ``name``, as BIDS has it for segmentations; 0 is no region."""


@dataclass(frozen=True)
class Voxels:
    """The voxels of a recording, region by region.

    Attributes
    ----------
    indices : i, j and k of every voxel
    table : roi, i, j, k, x, y, z (mm)
    origin : where the mask comes from
    """

    indices: tuple[NDArray[np.int64], ...]
    table: pd.DataFrame
    origin: str


def find_voxels(scans: Sequence[Scan], mask: str | None, atlas: AtlasConfig | None, root: Path) -> Voxels:
    """Choose the voxels that all runs share.

    Parameters
    ----------
    scans : the subject's runs, on one grid
    mask : a NIfTI file, `EVERYTHING`, or None for the runs' own brain masks or, without these, a computed one
    atlas : regions, if any
    root : where relative paths start

    Raises
    ------
    SourceMissing, SourceError
        A mask or atlas is absent, on another grid, or leaves no voxel.
    """
    inside, origin = _mask(scans, mask, root)
    if not inside.any():
        raise SourceError(f"{scans[0].run.image}: the mask ({origin}) holds no voxel; set source.mask to one that does")
    ijk = np.argwhere(inside)
    rois = np.full(len(ijk), WHOLE_BRAIN, dtype=object)
    if atlas is not None:
        rois, ranks = _regions(ijk, atlas, root, scans[0])
        order = np.argsort(ranks, kind="stable")
        ijk, rois = ijk[order], rois[order]
    affine = scans[0].grid.affine
    table = pd.DataFrame({"roi": rois.tolist()})
    table[["i", "j", "k"]] = ijk
    table[["x", "y", "z"]] = ijk @ affine[:3, :3].T + affine[:3, 3]
    return Voxels(tuple(ijk.T), table, origin)


def read_series(path: Path, voxels: Voxels) -> NDArray[np.float32]:
    """Read a run's time series: (time, voxel).

    Raises
    ------
    SourceError
        The image is cut short or damaged.
    """
    return np.ascontiguousarray(read_values(path)[voxels.indices].T)


def mask_files(scans: Sequence[Any], mask: str | None, atlas: AtlasConfig | None, root: Path) -> list[Path]:
    """Return the files that `find_voxels` reads beside the runs; `scans` may be runs."""
    files = [_at(root, path) for path in (atlas.image, atlas.labels)] if atlas else []
    if mask is None:
        return [*files, *(run.mask for run in scans if run.mask is not None)]
    return files if mask == EVERYTHING else [*files, _at(root, mask)]


def _mask(scans: Sequence[Scan], mask: str | None, root: Path) -> tuple[Mask, str]:
    grid, reference = scans[0].grid, scans[0].run.image.name
    if mask == EVERYTHING:
        return _survey(scans)[1], "voxels that vary in every run"
    if mask is not None:
        return _read_mask(_at(root, mask), grid, reference), f"source.mask: {Path(mask).name}"
    own = {scan.run.image: scan.run.mask for scan in scans}
    masks = [path for path in own.values() if path is not None]
    if not masks:
        return _computed(scans), "computed from the runs' mean by nilearn.masking.compute_epi_mask"
    for image, path in own.items():
        if path is None:
            raise SourceError(
                f"{image}: has no *_desc-brain_mask beside it, as other runs have; add it or set source.mask"
            )
    inside = np.logical_and.reduce([_read_mask(path, grid, reference) for path in masks])
    return np.asarray(inside), "voxels in every run's desc-brain mask"


def _read_mask(path: Path, grid: Grid, reference: str) -> Mask:
    check_grid(grid_of(open_image(path)), path, grid, reference, "resample it to the runs' space, or take another mask")
    values = read_values(path)
    if values.shape != grid.shape:
        raise SourceError(f"{path}: has the shape {values.shape}, expected {grid.shape}; a mask has three dimensions")
    # Also a map of probabilities is a mask; NaN is outside.
    return np.asarray(values >= 0.5)


def _computed(scans: Sequence[Scan]) -> Mask:
    from nilearn.masking import compute_epi_mask  # takes seconds, and only those who ingest need it

    mean = nibabel.Nifti1Image(_survey(scans)[0], scans[0].grid.affine)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inside = np.asarray(compute_epi_mask(mean).dataobj) > 0
    except (ValueError, TypeError, IndexError) as error:
        raise _no_mask(scans) from error
    if not inside.any():
        raise _no_mask(scans)
    return np.asarray(inside)


def _no_mask(scans: Sequence[Scan]) -> SourceError:
    return SourceError(
        f"{scans[0].run.image}: no brain mask beside it, and none could be computed from the runs' mean; set "
        f"source.mask to a NIfTI file, or to '{EVERYTHING}' for every voxel that varies"
    )


def _survey(scans: Sequence[Scan]) -> tuple[NDArray[np.float32], Mask]:
    """Read all runs once: the mean of their means, and which voxels vary in every run."""
    mean = np.zeros(scans[0].grid.shape)
    vary = np.ones(scans[0].grid.shape, dtype=bool)
    for scan in track(scans, "looking for voxels with signal"):
        values = read_values(scan.run.image)
        mean += values.mean(axis=-1, dtype=np.float64) / len(scans)
        vary &= np.ptp(values, axis=-1) > 0
    return mean.astype(np.float32), vary


def _regions(
    ijk: NDArray[np.int64], atlas: AtlasConfig, root: Path, scan: Scan
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return each voxel's region and that region's place in the order of labels, voxels in none last."""
    path = _at(root, atlas.image)
    mend = "resample the atlas to the runs' space, by nearest neighbour"
    check_grid(grid_of(open_image(path)), path, scan.grid, scan.run.image.name, mend)
    names = _labels(_at(root, atlas.labels))
    values = read_values(path)[tuple(ijk.T)]
    for value in np.unique(values[values != 0]):
        if value not in names:
            raise SourceError(f"{path}: holds the value {value:g}, which {atlas.labels} does not name; add it there")
    if not values.any():
        raise SourceError(f"{path}: no voxel of the mask lies in a region; check that atlas and runs are of one space")
    rank = {name: place for place, name in enumerate(dict.fromkeys(names.values()))}
    rois = np.array([names.get(float(value), NO_ROI) for value in values], dtype=object)
    return rois, np.array([rank.get(roi, len(rank)) for roi in rois])


def _at(root: Path, path: str) -> Path:
    return root / Path(path).expanduser()


def _labels(path: Path) -> dict[float, str]:
    table = read_tsv(present(path, "set source.atlas.labels to a TSV with index and name"), ["index", "name"])
    index = pd.to_numeric(table["index"], errors="coerce")
    if index.isna().any():
        raise SourceError(f"{path}: index '{table['index'][index.isna()].iloc[0]}' is no number; number the regions")
    for name in table["name"]:
        if not name or ROI_SEPARATOR in name:
            raise SourceError(f"{path}: region '{name}': a name is not empty and has no '{ROI_SEPARATOR}'; rename it")
    return dict(zip(index.astype(float), table["name"], strict=True))
