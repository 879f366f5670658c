"""Reads responses that were never stored, from a file that somebody hands over, and checks that an encoder takes them.

What is wrong is refused in one line; what could not be checked, or was inferred, is said in notes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SourceError, StoreError
from core.files import digest_file
from feature_store.reader import voxels_in
from feature_store.sources.base import NAME, present, read_csv, whole_numbers
from feature_store.sources.bids.images import Grid, check_grid, grid_of, open_image, read_values
from feature_store.sources.bold_moments.reader import read_mask
from studies.decoding.voxel_record import INDICES, VoxelOrder, VoxelRecord, VoxelScale, check_order, scale_fault

RESPONSES, TRIALS, VOXELS = "responses.npy", "trials.csv", "voxels.csv"
IMAGES = (".nii", ".nii.gz")
RUNS_CODE = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npz")
STORED = "the store's table of voxels"
ENOUGH = 20  # values: fewer say nothing of a scale

Array = NDArray[Any]
Columns = slice | NDArray[np.int64]


@dataclass(frozen=True)
class NewResponses:
    """Responses of one subject that an encoder takes as they are.

    Attributes
    ----------
    subject : str
    values : (trial, voxel) or (trial, time, voxel) float32, the voxels that the encoder was trained on, in its order
    names : one a trial: its stimulus where a table says so, else ``trial-0001``, …; trials of one name belong together
    digest : SHA-256 of the file's bytes
    notes : one line each on what was not checked, was inferred, or looks odd
    """

    subject: str
    values: NDArray[np.float32]
    names: list[str]
    digest: str
    notes: list[str]


@dataclass(frozen=True)
class _Listed:
    """What a file says of its voxels, one row each."""

    table: pd.DataFrame
    where: Path


@dataclass(frozen=True)
class _Given:
    """A file with its own tables, and what is known of training: the store's table, and the rows the encoder takes."""

    file: Path
    record: VoxelRecord
    listed: _Listed | None
    masked: _Listed | None
    stored: pd.DataFrame | None
    trained: pd.DataFrame | None

    @property
    def is_image(self) -> bool:
        return self.file.name.lower().endswith(IMAGES)

    @property
    def read_at_stored(self) -> bool:
        """Whether voxels are read at the indices of the store's table, whatever a table beside the image says."""
        return self.is_image and self.masked is None and self.trained is not None and set(INDICES) <= set(self.trained)


def read_responses(
    path: Path,
    subject: str,
    record: VoxelRecord,
    *,
    scale: VoxelScale | None = None,
    table: pd.DataFrame | None = None,
    voxels: Path | None = None,
    trials: Path | None = None,
    mask: Path | None = None,
    check_scale: bool = True,
) -> NewResponses:
    """Read a file of responses and hold it against what training recorded.

    Parameters
    ----------
    path : Path
        A `.npy` file, a folder with `responses.npy`, or a NIfTI image of betas, (x, y, z) or (x, y, z, trial).
    subject : str
    record : VoxelRecord
        Of this subject.
    scale : VoxelScale, optional
        Training's scale voxel by voxel; without it the record's summary is used, which finds less.
    table : DataFrame, optional
        The voxels of the store's whole group: chooses the regions out of a file of all voxels, says where the voxels of
        an image lie, and makes messages more precise.
    voxels, trials : Path, optional
        Tables of the file's voxels (roi, …) and trials (stimulus_id); by default `voxels.csv` and `trials.csv` beside.
    mask : Path, optional
        For an image: its voxels are those where the mask is not zero, in C order.
    check_scale : bool
        False takes values of another scale.

    Raises
    ------
    SourceMissing, SourceError
        A file is absent, or is not what the encoder was trained on.
    StoreError
        `table` is not of the store that the encoder was trained on.
    """
    file = _find(path)
    listed = _listed(voxels, file.parent / VOXELS)
    given = _Given(file, record, listed, _masked(file, mask), table, _trained(table, record, subject))
    notes: list[str] = []
    raw = _read_image(given, notes) if given.is_image else _read_array(given)
    chosen = _choose(given, raw.shape[-1])
    notes += _check_listed(given, raw.shape[-1], chosen)
    with np.errstate(over="ignore"):  # what float32 cannot hold is found below
        values = np.array(raw[..., chosen], dtype=np.float32, order="C")
    names = _names(trials, file, len(values), notes)
    notes += _check_values(file, values, record, scale)
    notes += _check_scale(file, values, record, scale) if check_scale else ["the scale was not checked, as asked"]
    return NewResponses(subject, values, names, digest_file(file), [*notes, *_odd_trials(values, names)])


def _find(path: Path) -> Path:
    """Return the file that holds the values, of a kind that is read."""
    if path.is_dir():
        within = sorted(file.parent.name for file in path.glob(f"*/{RESPONSES}"))
        advice = f"name a subject's folder, such as {path / within[0]}" if within else "name the file itself"
        return present(path / RESPONSES, advice)
    present(path, f"name a .npy file, a folder with {RESPONSES}, or a NIfTI image")
    name = path.name.lower()
    if name.endswith(RUNS_CODE):
        raise SourceError(f"{path}: a {path.suffix} file can run code, is not read; save with numpy.save")
    if not name.endswith((".npy", *IMAGES)):
        raise SourceError(f"{path}: a '{path.suffix}' file, expected .npy or {' or '.join(IMAGES)}; use numpy.save")
    return path


def _trained(table: pd.DataFrame | None, record: VoxelRecord, subject: str) -> pd.DataFrame | None:
    """Return the rows of the store's table that the encoder takes."""
    if table is None:
        return None
    rows = table if record.rois is None else table.iloc[voxels_in(table["roi"], record.rois, STORED)]
    if len(table) != record.stored_voxels or VoxelOrder.of(rows) != record.order:
        raise StoreError(
            f"{subject}: the store's table has other voxels ({len(table):,}) than the encoder was trained on "
            f"({record.stored_voxels:,}), or in another order; run 'dvc checkout', or read the file without the store"
        )
    return rows


def _listed(given: Path | None, beside: Path) -> _Listed | None:
    where = given or (beside if beside.is_file() else None)
    return None if where is None else _Listed(read_csv(where, []), where)


def _masked(file: Path, mask: Path | None) -> _Listed | None:
    if mask is None:
        return None
    if not file.name.lower().endswith(IMAGES):
        raise SourceError(f"{file}: a mask ({mask.name}) is for NIfTI images; leave it out, or give the image")
    inside = read_mask(present(mask, "name the mask of the study's voxels"))
    return _Listed(pd.DataFrame(dict(zip(INDICES, np.unravel_index(inside.flat, inside.shape), strict=True))), mask)


def _read_array(given: _Given) -> Array:
    file = given.file
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
    _check_shape(file, values.shape, given.record)
    return values


def _read_image(given: _Given, notes: list[str]) -> Array:
    """Read betas (trial, voxel) where a mask is not zero, else at the table's indices."""
    file, record = given.file, given.record
    if record.time_points is not None:
        raise SourceError(f"{file}: windows of BOLD are not read from images; save (trial, time, voxel) as .npy")
    image = open_image(file)
    _check_numbers(file, image.get_data_dtype())
    if len(image.shape) not in (3, 4):
        raise SourceError(f"{file}: has the shape {image.shape}; expected (x, y, z, trial), or (x, y, z) of one trial")
    grid, ijk = grid_of(image), _indices(given)
    if given.masked is not None:
        where = given.masked.where
        check_grid(grid, file, grid_of(open_image(where)), where.name, "give the mask of these betas")
    notes += _check_place(file, grid, record)
    if (ijk.max(axis=1, initial=-1) >= grid.shape).any():
        raise SourceError(f"{file}: has {grid.shape} voxels, and the table's lie outside; give betas of its space")
    _check_shape(file, (image.shape[3] if len(image.shape) == 4 else 1, ijk.shape[1]), record)
    values = read_values(file)
    return np.asarray((values if values.ndim == 4 else values[..., None])[tuple(ijk)].T)


def _check_numbers(file: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "fiu":
        raise SourceError(f"{file}: holds {dtype}, expected real numbers; save float32")


def _indices(given: _Given) -> NDArray[np.int64]:
    """Return i, j and k of every voxel, (3, voxel): of the mask, of the store's table, or of the file's own."""
    trained, listed = given.trained, given.listed
    if given.masked is not None:
        return given.masked.table.to_numpy(np.int64).T
    if trained is not None and given.read_at_stored:
        return trained[list(INDICES)].to_numpy(np.int64).T
    if listed is not None and set(INDICES) <= set(listed.table):
        return np.stack([whole_numbers(listed.table[name], listed.where).to_numpy() for name in INDICES])
    raise SourceError(
        f"{given.file}: where its voxels lie is not known; give the study's mask, or a {VOXELS} with i, j and k"
    )


def _check_place(file: Path, found: Grid, record: VoxelRecord) -> list[str]:
    """Hold an image's grid against training's, as far as that was recorded."""
    told = record.affine is not None
    expected = Grid(tuple(record.grid or found.shape), np.asarray(record.affine) if told else found.affine)
    check_grid(found, file, expected, "training", "resample it to the space that the encoder was trained in")
    return [] if told else [f"training recorded no affine: that {file.name} is of the same space cannot be checked"]


def _check_shape(file: Path, shape: tuple[int, ...], record: VoxelRecord) -> None:
    axes = ["trial", "voxel"] if record.time_points is None else ["trial", f"{record.time_points} time points", "voxel"]
    expected = f"expected ({', '.join(axes)}) of {record.voxels:,} voxels as in training"
    counts = {record.voxels, record.stored_voxels}
    if len(shape) != len(axes):
        hint = {-1: "save one trial as values[None]", 1: "average over time points"}.get(len(shape) - len(axes))
        raise SourceError(f"{file}: has the shape {shape}, {expected}; {hint or 'save it with these axes'}")
    if 0 in shape:
        raise SourceError(f"{file}: has the shape {shape} and holds no value, {expected}; save it again")
    if shape[-1] not in counts:
        turned = any(size in counts for size in shape[:-1])
        hint = "its axes are turned round: save it transposed" if turned else "give the same voxels in the same order"
        raise SourceError(f"{file}: has the shape {shape}, {expected}; {hint}")
    if record.time_points is not None and shape[1] != record.time_points:
        raise SourceError(f"{file}: has {shape[1]} time points, {expected}; cut windows as for training")


def _choose(given: _Given, width: int) -> Columns:
    """Return which of the file's voxels the encoder takes: all, or those of its regions out of all that are stored."""
    record, listed, rois = given.record, given.listed, given.record.rois or []
    if width == record.voxels:
        return slice(None)
    if given.stored is not None:
        return voxels_in(given.stored["roi"], rois, STORED)
    if listed is None or "roi" not in listed.table:
        raise SourceError(
            f"{given.file}: has all {width:,} voxels of the store, expected the {record.voxels:,} of {', '.join(rois)};"
            f" give these alone, a {VOXELS} with the column roi, or run it where the feature store is"
        )
    found = voxels_in(listed.table["roi"], rois, listed.where)
    if len(found) != record.voxels:
        told = f"{len(found):,} voxels lie in {', '.join(rois)}, expected {record.voxels:,}"
        raise SourceError(f"{listed.where}: {told} as in training; name the regions as in training")
    return found


def _check_listed(given: _Given, width: int, chosen: Columns) -> list[str]:
    """Hold the file's own tables against training's order of voxels."""
    notes, file = list[str](), given.file.name
    for one in (given.listed, given.masked):
        if one is None or (given.read_at_stored and one is given.listed):
            continue
        if len(one.table) != width:
            raise SourceError(f"{one.where}: lists {len(one.table):,} voxels and {file} has {width:,}; mend either")
        if given.stored is not None and width == len(given.stored):
            notes += check_order(one.table, VoxelOrder.of(given.stored), given.stored, one.where)
        else:
            notes += check_order(one.table.iloc[chosen], given.record.order, given.trained, one.where)
    if given.listed is None and not given.is_image:
        notes.append(f"no {VOXELS} beside {file}: the order of voxels cannot be checked")
    return notes


def _names(given: Path | None, file: Path, count: int, notes: list[str]) -> list[str]:
    numbered = [f"trial-{number:04d}" for number in range(1, count + 1)]
    where = given or file.parent / TRIALS
    if given is None and not where.is_file():
        notes.append(f"no {TRIALS} beside {file.name}: trials are numbered, and none is averaged with another")
        return numbered
    told = list(read_csv(where, ["stimulus_id"])["stimulus_id"])
    if len(told) != count:
        raise SourceError(f"{where}: has {len(told)} rows and {file.name} {count} trials; name one stimulus a trial")
    for name in filter(None, told):
        if not NAME.fullmatch(name):
            raise SourceError(f"{where}: stimulus '{name}' cannot name a file; use letters, digits, '.', '_' and '-'")
    return [name or number for name, number in zip(told, numbered, strict=True)]


def _check_values(file: Path, values: NDArray[np.float32], record: VoxelRecord, scale: VoxelScale | None) -> list[str]:
    """Raise unless values are finite where training's were, and not all the same."""
    bad: NDArray[np.bool_] = np.any(~np.isfinite(values).reshape(len(values), -1, values.shape[-1]), axis=1)
    count = int(bad.any(axis=0).sum())
    wrong = bad & (count > record.left_out if scale is None else scale.kept)
    if wrong.any():
        row, voxel = np.argwhere(wrong)[0] + 1
        allowed = f" beside the {record.left_out:,} that training left out" if record.left_out else ""
        raise SourceError(
            f"{file}: NaN or infinity in {wrong.any(axis=1).sum():,} of {len(bad):,} trials and "
            f"{wrong.any(axis=0).sum():,} of {record.voxels:,} voxels{allowed}, first in trial {row}, voxel {voxel}; "
            "mend or fill them"
        )
    finite = values[np.isfinite(values)]
    if len(finite) > 1 and np.ptp(finite) == 0:
        raise SourceError(f"{file}: every value is {finite[0]:g}; give the file that holds the responses")
    sure = "which training left out" if scale is not None else "no more than training left out, maybe others"
    return [f"{count:,} voxels hold NaN or infinity, {sure}"] if count else []


def _check_scale(file: Path, values: NDArray[np.float32], record: VoxelRecord, scale: VoxelScale | None) -> list[str]:
    if values.size < ENOUGH:
        return [f"{file.name} holds {values.size} values, too few to check their scale"]
    if fault := scale_fault(values, record, scale):
        raise SourceError(f"{file}: {fault}; bring them to training's units, or take them as they are with --any-scale")
    return [] if scale is not None else ["the scale was checked for all voxels together, not for each"]


def _odd_trials(values: NDArray[np.float32], names: list[str]) -> list[str]:
    """Say which trials hold nothing but zeros, and which repeat an earlier one."""
    seen, zero, again = dict[bytes, int](), list[int](), list[int]()
    for row, trial in enumerate(values):
        if not trial.any():
            zero.append(row)
        elif seen.setdefault(hashlib.sha256(trial.tobytes()).digest(), row) != row:
            again.append(row)
    odd = (("zero throughout", zero), ("the same as an earlier one, value by value", again))
    return [f"trials {what}: {len(rows)}, first {rows[0] + 1} ({names[rows[0]]})" for what, rows in odd if rows]
