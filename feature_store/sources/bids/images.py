"""Reads BOLD images: their repetition time and grid, checked against sidecars and each other; their masks and atlas."""

import math
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from core.config import Config
from core.errors import SourceError
from core.files import read_json
from core.progress import track
from feature_store.sources.base import NO_ROI, ROI_SEPARATOR, present
from feature_store.sources.bids.files import Run
from feature_store.sources.timeseries import Timing
from feature_store.sources.tsv import read_tsv

TOLERANCE_S = 1e-3
"""How far a header's and a sidecar's repetition time may lie apart."""
LONGEST_TR_S = 60.0
"""No scanner takes a minute for a volume; a larger number is in milliseconds."""
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
AFFINE_MM = 1e-3

Sidecar = dict[str, tuple[Any, Path]]
"""The sidecars' values, each with the file that it comes from."""
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


@dataclass(frozen=True)
class Grid:
    """Where an image's voxels lie: how many there are along i, j, k, and the affine (4, 4) from indices to mm."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Scan:
    """A run whose header and sidecars were read."""

    run: Run
    timing: Timing
    grid: Grid


def open_scan(run: Run) -> Scan:
    """Read a run's header and sidecars.

    Raises `SourceError` where the image is absent, unreadable or not 4-D, or its repetition time unknown or ambiguous.
    """
    image = open_image(run.image)
    if len(image.shape) != 4:
        raise SourceError(
            f"{run.image}: has the shape {image.shape}; BOLD has four dimensions, (i, j, k, time); replace the file"
        )
    if not np.isfinite(image.affine).all():
        raise SourceError(f"{run.image}: its affine is not finite; voxels have no place; convert the image again")
    about = _sidecar(run.sidecars)
    timing = Timing(image.shape[3], _repetition_time_s(run, image.header, about), _number(about, "StartTime") or 0.0)
    if timing.volumes < 2:
        raise SourceError(f"{run.image}: has {timing.volumes} volume; a run has many; replace the file")
    return Scan(run, timing, grid_of(image))


def open_scans(runs: Sequence[Run]) -> list[Scan]:
    """Open runs that belong together; raises `SourceError` where one has another grid or repetition time."""
    scans = [open_scan(run) for run in runs]
    for scan in scans[1:]:
        remedy = "bring all runs into one space (fMRIPrep does) and set source.derivatives"
        check_grid(scan.grid, scan.run.image, scans[0].grid, scans[0].run.image.name, remedy)
        found, expected = scan.timing.tr_s, scans[0].timing.tr_s
        if abs(found - expected) > TOLERANCE_S:
            raise SourceError(
                f"{scan.run.image}: repetition time {found:g} s, expected {expected:g} s as in "
                f"{scans[0].run.image.name}; choose runs that have the same with source.task or source.sessions"
            )
    return scans


def open_image(path: Path) -> Any:
    """Open a NIfTI file, whose data are not read yet; raises `SourceError` where it is absent or no NIfTI file."""
    present(path, "fetch the dataset again or fix the setting that names it")
    try:
        return nibabel.load(path)
    except UNREADABLE as error:
        raise SourceError(f"{path}: not a NIfTI file ({_first_line(error)}); fetch it again") from error


def read_values(path: Path) -> NDArray[np.float32]:
    """Read an image's voxels, scaled as its header demands; raises `SourceError` where it is cut short or no image."""
    image = open_image(path)
    try:
        return np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except UNREADABLE as error:
        raise SourceError(f"{path}: cut short or damaged ({_first_line(error)}); fetch it again") from error


def grid_of(image: Any) -> Grid:
    """Return where an image's voxels lie."""
    return Grid(tuple(int(size) for size in image.shape[:3]), np.asarray(image.affine, np.float64))


def check_grid(found: Grid, path: Path, expected: Grid, reference: str, remedy: str) -> None:
    """Raise `SourceError` unless two images have the same shape and affine."""
    if found.shape != expected.shape:
        raise SourceError(f"{path}: has {found.shape} voxels, expected {expected.shape} as in {reference}; {remedy}")
    if not np.allclose(found.affine, expected.affine, atol=AFFINE_MM):
        apart = float(np.abs(found.affine - expected.affine).max())
        raise SourceError(f"{path}: its affine is not that of {reference} (by up to {apart:.3g}); {remedy}")


def _repetition_time_s(run: Run, header: Any, about: Sidecar) -> float:
    """Return the repetition time, which header and sidecar must agree on where both have it."""
    if "VolumeTiming" in about:
        raise SourceError(f"{about['VolumeTiming'][1]}: VolumeTiming: volumes at uneven intervals cannot be read")
    written, unit = float(np.nan_to_num(header.get_zooms()[3])), _time_unit(header)
    sidecar_s = _number(about, "RepetitionTime")
    if unit in SECONDS and (written_s := written * SECONDS[unit]) > LONGEST_TR_S:
        raise SourceError(
            f"{run.image}: the header's repetition time is {written_s:g} seconds; the header probably means "
            f"milliseconds; set pixdim[4] to {written_s / 1000:.4}, or its unit (xyzt_units) to milliseconds"
        )
    if sidecar_s is not None and sidecar_s > LONGEST_TR_S:
        raise SourceError(
            f"{about['RepetitionTime'][1]}: RepetitionTime is {sidecar_s:g} seconds; it probably means milliseconds; "
            f"set it to {sidecar_s / 1000:.4}"
        )
    if sidecar_s is None:
        return _headers_time_s(run, written, unit)
    _check_agreement(run, written, unit, sidecar_s)
    return sidecar_s


def _headers_time_s(run: Run, written: float, unit: str) -> float:
    if unit not in SECONDS or written <= 0:
        found = f"{written:g} without a unit of time" if written > 0 else f"{written:g}"
        raise SourceError(
            f"{run.image}: no repetition time: pixdim[4] is {found}, and no sidecar has RepetitionTime; "
            f"add {run.image.name.split('.')[0]}.json with RepetitionTime in seconds"
        )
    return written * SECONDS[unit]


def _check_agreement(run: Run, written: float, unit: str, sidecar_s: float) -> None:
    # Without a unit, 0 and 1 are what software writes that knows no repetition time.
    if written <= 0 or (unit not in SECONDS and written == 1):
        return
    possible_s = [written * SECONDS[unit]] if unit in SECONDS else [written, written / 1000]
    if all(abs(value_s - sidecar_s) > TOLERANCE_S for value_s in possible_s):
        named = unit if unit in SECONDS else "(no unit)"
        raise SourceError(
            f"{run.image}: the header's repetition time (pixdim[4]) is {written:g} {named}, the sidecar's "
            f"RepetitionTime {sidecar_s:g} s; set the wrong one to what was measured"
        )


def _time_unit(header: Any) -> str:
    with suppress(KeyError):  # a code that NIfTI does not have is no unit either
        return str(header.get_xyzt_units()[1])
    return "unknown"


def _sidecar(paths: Sequence[Path]) -> Sidecar:
    merged: Sidecar = {}
    for path in paths:
        try:
            content = read_json(present(path, "fetch the dataset again"))
        except ValueError as error:
            raise SourceError(f"{path}: no JSON ({_first_line(error)}); fetch the file again") from error
        if not isinstance(content, dict):
            raise SourceError(f"{path}: holds no JSON object; a sidecar has keys such as RepetitionTime")
        merged |= {key: (value, path) for key, value in content.items()}
    return merged


def _number(about: Sidecar, key: str) -> float | None:
    if key not in about:
        return None
    value, path = about[key]
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    if not number or (key == "RepetitionTime" and value == 0):
        raise SourceError(f"{path}: {key} is {value!r}; expected seconds")
    return float(value)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
    """Read a run's time series: (time, voxel)."""
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
    remedy = "resample the atlas to the runs' space, by nearest neighbour"
    check_grid(grid_of(open_image(path)), path, scan.grid, scan.run.image.name, remedy)
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
