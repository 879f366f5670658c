"""Chooses a recording's voxels: by a mask, its own or a computed one, and names their regions by an atlas."""

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
from core.files import read_json
from core.progress import track
from feature_store.cells import NAMELESS
from feature_store.sources.base import NO_ROI, ROI_SEPARATOR, present
from feature_store.sources.bids.images import Grid, Scan, check_volumes, read_values, read_volume
from feature_store.sources.tsv import read_tsv

EVERYTHING = "none"
"""The mask that takes every voxel that varies."""
WHOLE_BRAIN = "brain"
"""The region of all voxels where there is no atlas."""

Mask = NDArray[np.bool_]


class AtlasConfig(Config):
    """Regions: an image whose voxels hold whole numbers, and what these mean."""

    image: str
    labels: str
    """A TSV with the columns ``index`` and ``name``, as BIDS has it for segmentations, or a JSON object of names by
    index; 0 is no region."""


@dataclass(frozen=True)
class Voxels:
    """The voxels of a recording, region by region."""

    indices: tuple[NDArray[np.int64], ...]  # i, j and k of every voxel
    table: pd.DataFrame  # roi, i, j, k, x, y, z (mm)
    origin: str  # where the mask comes from


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
    """Read a run's time series, (time, voxel); what is infinite is NaN.

    Raises `SourceError` as `check_volumes` does.
    """
    series = np.ascontiguousarray(read_values(path)[voxels.indices].T)
    check_volumes(series, path)
    series[np.isinf(series)] = np.nan
    return series


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
    remedy = "resample it to the runs' space, or take another mask"
    values = read_volume(path, grid, reference, remedy=remedy, several="a mask has three dimensions")
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
        check_volumes(values.reshape(-1, values.shape[-1]).T, scan.run.image)
        mean += values.mean(axis=-1, dtype=np.float64) / len(scans)
        vary &= np.ptp(values, axis=-1) > 0
    return np.nan_to_num(mean.astype(np.float32)), vary


def _regions(
    ijk: NDArray[np.int64], atlas: AtlasConfig, root: Path, scan: Scan
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return each voxel's region and that region's place in the order of labels, voxels in none last."""
    path = _at(root, atlas.image)
    remedy = "resample the atlas to the runs' space, by nearest neighbour"
    several = "an atlas is one image of labels, not a map a region; write each voxel's label into one image"
    whole = read_volume(path, scan.grid, scan.run.image.name, remedy=remedy, several=several)
    names = _labels(_at(root, atlas.labels))
    values = np.nan_to_num(whole[tuple(ijk.T)])  # some software writes NaN where no region is
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
    present(path, "set source.atlas.labels to a TSV with index and name")
    table = _json_labels(path) if path.suffix.lower() == ".json" else read_tsv(path, ["index", "name"])
    index = pd.to_numeric(table["index"], errors="coerce")
    if index.isna().any():
        raise SourceError(f"{path}: index '{table['index'][index.isna()].iloc[0]}' is no number; number the regions")
    for number, names in table.groupby(index)["name"]:
        if (names != names.iloc[0]).any():
            raise SourceError(f"{path}: index {number:g} is of '{names.iloc[0]}' and of '{names.iloc[1]}'; keep one")
    for name in table["name"]:
        if name.lower() in NAMELESS or ROI_SEPARATOR in name:
            raise SourceError(f"{path}: region '{name}': a name is not empty and has no '{ROI_SEPARATOR}'; rename it")
    return dict(zip(index.astype(float), table["name"], strict=True))


def _json_labels(path: Path) -> pd.DataFrame:
    try:
        content = read_json(path)
    except ValueError as error:
        raise SourceError(f"{path}: no JSON ({str(error).splitlines()[0]}); expected names by index") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise SourceError(f'{path}: expected a JSON object of names by index, such as {{"1": "V1"}}')
    return pd.DataFrame({"index": list(content), "name": list(content.values())}, dtype=str)
