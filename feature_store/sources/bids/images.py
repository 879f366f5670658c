"""Reads BOLD images: their repetition time and grid, checked against sidecars and each other; their values."""

import math
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from core.errors import SourceError
from core.files import read_json
from feature_store.sources.base import present
from feature_store.sources.bids.files import Run
from feature_store.sources.timeseries import Timing

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
    """Read an image's voxels, scaled as its header demands.

    Raises `SourceError` where it is cut short, no image, or not of real numbers.
    """
    image = open_image(path)
    if image.get_data_dtype().kind not in "fiu":
        raise SourceError(
            f"{path}: holds {image.get_data_dtype()}; expected real numbers, such as the magnitude; convert it again"
        )
    try:
        return np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except UNREADABLE as error:
        raise SourceError(f"{path}: cut short or damaged ({_first_line(error)}); fetch it again") from error


def read_volume(path: Path, expected: Grid, reference: str, *, remedy: str, several: str) -> NDArray[np.float32]:
    """Read an image of one volume on a grid, (i, j, k); axes of one element after these count for nothing.

    Raises `SourceError` where it lies on another grid (`remedy` says what to do), or has several volumes (`several`).
    """
    check_grid(grid_of(open_image(path)), path, expected, reference, remedy)
    values = read_values(path)
    if values.size != math.prod(expected.shape):
        raise SourceError(f"{path}: has the shape {values.shape}, expected {expected.shape}; {several}")
    return values.reshape(expected.shape)


def check_volumes(series: NDArray[np.float32], where: Path) -> None:
    """Raise `SourceError` for a run (time, voxel) whose volumes are alike, or that has one without an image.

    A voxel without a finite value in the whole run was not measured; it may be there.
    """
    finite = np.isfinite(series)
    measured = finite.any(axis=0)
    for volume in np.flatnonzero(~finite.any(axis=1)):
        raise SourceError(
            f"{where}: volume {volume + 1} of {len(series)} is NaN or infinite in all voxels; reconstruct the run again"
        )
    inside = series[:, measured & finite.all(axis=0)]
    if not inside.size:
        return
    if not np.ptp(inside, axis=0).any():
        raise SourceError(f"{where}: no voxel varies: its {len(series)} volumes are alike; replace the file")
    if inside.shape[1] > 1:
        for volume in np.flatnonzero(np.ptp(inside, axis=1) == 0):
            raise SourceError(
                f"{where}: volume {volume + 1} of {len(series)} is constant, {inside[volume, 0]:g} in all voxels; "
                "reconstruct the run again"
            )


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
