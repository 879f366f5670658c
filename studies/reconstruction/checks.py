"""Checks whether an encoder takes responses that were never stored.

What is wrong is refused in one line; what could not be checked, or was inferred, is listed in notes.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import Config
from core.errors import SourceError, StoreError
from core.files import digest_file
from feature_store.reader import voxels_in
from feature_store.sources.bids.images import Grid, check_grid, grid_of, open_image
from feature_store.sources.response_file import (
    INDICES,
    VOXELS,
    VoxelTable,
    find_responses,
    is_image,
    masked_voxels,
    open_betas,
    read_array,
    read_betas,
    trial_names,
    voxel_table,
)
from models.encoders.linear import mean_over_time
from studies.decoding.voxel_record import Floats, VoxelOrder, VoxelRecord, VoxelScale, canonical

STORED = "the store's table of voxels"
ENOUGH = 20
"""Values: fewer are too few to check a scale by."""
FACTOR = 5.0
"""How many times larger or smaller than in training new values may be."""
MIN_TRIALS = 4
"""Trials that a spread over trials needs at least."""

Array = NDArray[Any]
Columns = slice | NDArray[np.int64]


class NewFile(Config):
    """A file of responses with what belongs to it.

    Attributes
    ----------
    path : `.npy`, a folder with `responses.npy`, or a NIfTI image of betas, (x, y, z) or (x, y, z, trial)
    voxels, trials : tables of its voxels (roi, …) and trials (stimulus_id); by default those beside it
    mask : for an image: its voxels are those where the mask is not zero, in C order
    check_scale : False takes values of another scale than training's
    """

    path: Path
    voxels: Path | None = None
    trials: Path | None = None
    mask: Path | None = None
    check_scale: bool = True


@dataclass(frozen=True)
class NewResponses:
    """Responses of one subject that an encoder takes as they are.

    Attributes
    ----------
    values : (trial, voxel) or (trial, time, voxel) float32, the voxels that the encoder was trained on, in its order
    names : the stimulus of each trial where a table lists it, else ``trial-0001``, …; equal names belong together
    digest : SHA-256 of the file's bytes
    notes : one line each on what was not checked, was inferred, or looks odd
    """

    subject: str
    values: NDArray[np.float32]
    names: list[str]
    digest: str
    notes: list[str]


@dataclass(frozen=True)
class _File:
    """A file with its own tables, and what is known of training: the store's table, and the rows the encoder takes."""

    path: Path
    record: VoxelRecord
    listed: VoxelTable | None
    masked: VoxelTable | None
    stored: pd.DataFrame | None
    trained: pd.DataFrame | None

    @property
    def read_at_stored(self) -> bool:
        """Whether voxels are read at the indices of the store's table, whatever a table beside the image lists."""
        stored = self.trained is not None and set(INDICES) <= set(self.trained)
        return is_image(self.path) and self.masked is None and stored

    def indices(self) -> NDArray[np.int64]:
        """Return i, j and k of every voxel, (3, voxel): of the mask, of the store's table, or of the file's own."""
        if self.masked is not None:
            return self.masked.table.to_numpy(np.int64).T
        if self.trained is not None and self.read_at_stored:
            return self.trained[list(INDICES)].to_numpy(np.int64).T
        indices = None if self.listed is None else self.listed.indices()
        if indices is None:
            raise SourceError(
                f"{self.path}: where its voxels lie is not known; give the study's mask, or a {VOXELS} with i, j and k"
            )
        return indices


def read_responses(
    file: NewFile,
    subject: str,
    record: VoxelRecord,
    *,
    scale: VoxelScale | None = None,
    table: pd.DataFrame | None = None,
) -> NewResponses:
    """Read a file of responses and check it against what training recorded.

    Parameters
    ----------
    record : of this subject
    scale : training's scale voxel by voxel; without it the record's summary is used, which finds less
    table : the voxels of the store's whole group: chooses the regions out of a file of all voxels, locates the voxels
        of an image, and makes messages more precise

    Raises
    ------
    SourceMissing, SourceError
        A file is absent, or is not what the encoder was trained on.
    StoreError
        `table` is not of the store that the encoder was trained on.
    """
    path = find_responses(file.path)
    listed, masked = voxel_table(file.voxels, path.parent / VOXELS), masked_voxels(path, file.mask)
    ours = _File(path, record, listed, masked, table, _trained(table, record, subject))
    notes: list[str] = []
    raw = _read_image(ours, notes) if is_image(path) else read_array(path)
    _check_shape(path, raw.shape, record)
    chosen = _choose(ours, raw.shape[-1])
    notes += _check_listed(ours, raw.shape[-1], chosen)
    with np.errstate(over="ignore"):  # what float32 cannot hold is found below
        values = np.array(raw[..., chosen], dtype=np.float32, order="C")
    names, unnamed = trial_names(file.trials, path, len(values))
    notes += [*unnamed, *_check_values(path, values, record, scale)]
    notes += _check_scale(path, values, record, scale) if file.check_scale else ["the scale was not checked, as asked"]
    return NewResponses(subject, values, names, digest_file(path), [*notes, *_odd_trials(values, names)])


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


def _read_image(ours: _File, notes: list[str]) -> Array:
    """Read betas (trial, voxel) where a mask is not zero, else at the table's indices."""
    file, record = ours.path, ours.record
    if record.time_points is not None:
        raise SourceError(f"{file}: windows of BOLD are not read from images; save (trial, time, voxel) as .npy")
    (grid, trials), indices = open_betas(file), ours.indices()
    if ours.masked is not None:
        mask = ours.masked.where
        check_grid(grid, file, grid_of(open_image(mask)), mask.name, "give the mask of these betas")
    notes += _check_place(file, grid, record)
    if (indices.max(axis=1, initial=-1) >= grid.shape).any():
        raise SourceError(f"{file}: has {grid.shape} voxels, and the table's lie outside; give betas of its space")
    _check_shape(file, (trials, indices.shape[1]), record)
    return read_betas(file, indices)


def _check_place(file: Path, grid: Grid, record: VoxelRecord) -> list[str]:
    """Check an image's grid against training's, as far as that was recorded."""
    known = record.affine is not None
    expected = Grid(tuple(record.grid or grid.shape), np.asarray(record.affine) if known else grid.affine)
    check_grid(grid, file, expected, "training", "resample it to the space that the encoder was trained in")
    return [] if known else [f"training recorded no affine: that {file.name} is of the same space cannot be checked"]


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


def _choose(ours: _File, width: int) -> Columns:
    """Return which of the file's voxels the encoder takes: all, or those of its regions out of all that are stored."""
    record, listed, rois = ours.record, ours.listed, ours.record.rois or []
    if width == record.voxels:
        return slice(None)
    if ours.stored is not None:
        return voxels_in(ours.stored["roi"], rois, STORED)
    if listed is None or "roi" not in listed.table:
        raise SourceError(
            f"{ours.path}: has all {width:,} voxels of the store, expected the {record.voxels:,} of {', '.join(rois)};"
            f" give these alone, a {VOXELS} with the column roi, or run it where the feature store is"
        )
    chosen = voxels_in(listed.table["roi"], rois, listed.where)
    if len(chosen) != record.voxels:
        counted = f"{len(chosen):,} voxels lie in {', '.join(rois)}, expected {record.voxels:,}"
        raise SourceError(f"{listed.where}: {counted} as in training; name the regions as in training")
    return chosen


def _check_listed(ours: _File, width: int, chosen: Columns) -> list[str]:
    """Check the file's own tables against training's order of voxels."""
    notes, file = list[str](), ours.path.name
    for table in (ours.listed, ours.masked):
        if table is None or (ours.read_at_stored and table is ours.listed):
            continue
        if len(table.table) != width:
            raise SourceError(
                f"{table.where}: lists {len(table.table):,} voxels and {file} has {width:,}; correct either"
            )
        if ours.stored is not None and width == len(ours.stored):
            notes += check_order(table.table, VoxelOrder.of(ours.stored), ours.stored, table.where)
        else:
            notes += check_order(table.table.iloc[chosen], ours.record.order, ours.trained, table.where)
    if ours.listed is None and not is_image(ours.path):
        notes.append(f"no {VOXELS} beside {file}: the order of voxels cannot be checked")
    return notes


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
            "correct or fill them"
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
    """Return notes on trials that hold nothing but zeros, and on those that repeat an earlier one."""
    seen, zero, again = dict[bytes, int](), list[int](), list[int]()
    for row, trial in enumerate(values):
        if not trial.any():
            zero.append(row)
        elif seen.setdefault(hashlib.sha256(trial.tobytes()).digest(), row) != row:
            again.append(row)
    odd = (("zero throughout", zero), ("the same as an earlier one, value by value", again))
    return [f"trials {what}: {len(rows)}, first {rows[0] + 1} ({names[rows[0]]})" for what, rows in odd if rows]


def scale_fault(values: NDArray[Any], record: VoxelRecord, scale: VoxelScale | None) -> str | None:
    """Return how far values are from training's scale and the likely reason, or None where they are near.

    The measure is the root mean square of the values, standardised as in training: about 1, not `FACTOR` times more or
    less. Without `scale` it is that of all voxels at once, beside the spread of all values and of a voxel over trials.

    Parameters
    ----------
    values : (trial, voxel) or (trial, time, voxel), finite in the voxels that training kept
    """
    flat = mean_over_time(values).astype(np.float64)
    flat = flat[:, np.isfinite(flat).all(axis=0) if scale is None else scale.kept]
    ratios = _ratios(flat, record) if scale is None else [_rms((flat - scale.mean[scale.kept]) / scale.sd[scale.kept])]
    worst = max(ratios, key=lambda ratio: abs(math.log(max(ratio, 1e-30))))
    if 1 / FACTOR <= worst <= FACTOR:
        return None
    mean, sd = float(flat.mean()), float(flat.std())
    size = math.hypot(mean, sd) / math.hypot(record.centre, record.spread)
    if worst > 1 and 1 / 2 < size < 2:
        sign = "voxels in another order, or those of another subject"
    elif size < 1:
        sign = "z-scores or fractions, where training had percent signal change or raw values"
    elif abs(mean) > FACTOR * max(sd, record.spread):
        sign = "raw BOLD, not normalised as for training"
    else:
        sign = "percent signal change or values that were not normalised, where training had z-scores"
    return (
        f"values of {mean:.4g} ± {sd:.4g} where training had {record.centre:.4g} ± {record.spread:.4g}: in its units "
        f"their size is {worst:.3g}, expected about 1 ({1 / FACTOR:g} to {FACTOR:g}); likely {sign}"
    )


def check_order(listed: pd.DataFrame, order: VoxelOrder, expected: pd.DataFrame | None, where: Path) -> list[str]:
    """Compare a voxel table with the order of voxels in training, as far as the table has its columns.

    Raises `SourceError` where they are the same voxels in another order, or others.

    Parameters
    ----------
    listed : one row a voxel, as many as `order` was made of
    expected : the table behind `order`, where the store has it: then the first difference is named
    where : the file of `listed`, for messages

    Returns
    -------
    notes : what could not be checked
    """
    common = [name for name in order.columns if name in listed]
    lacking = [name for name in order.columns if name not in listed]
    if not common:
        return [f"{where.name} has none of the columns {', '.join(lacking)}: the order of voxels cannot be checked"]
    own = VoxelOrder.of(listed, common)
    wrong = [name for name in common if own.columns[name] != order.columns[name]]
    if wrong:
        known = None if expected is None else expected[common]
        wanted = order.unordered if not lacking else None if known is None else VoxelOrder.of(known, common).unordered
        raise _disorder(listed, known, wrong, where, same=own.unordered == wanted)
    notes = []
    if lacking:
        notes.append(f"{where.name} lacks {', '.join(lacking)}: the order was checked by {', '.join(common)} alone")
    if not own.distinct:
        notes.append(f"{where.name}: voxels of the same {', '.join(common)} cannot be told apart, nor can their order")
    return notes


def _disorder(
    listed: pd.DataFrame, expected: pd.DataFrame | None, wrong: list[str], where: Path, *, same: bool
) -> SourceError:
    place = "" if expected is None else f": first difference at {_first_difference(listed, expected, wrong)}"
    if same:
        return SourceError(f"{where}: the same voxels in another order{place}; bring them into the order of training")
    columns = f"{', '.join(wrong)} differ{'s' if len(wrong) == 1 else ''}"
    return SourceError(
        f"{where}: other voxels than in training ({columns}{place}); give the voxels that the encoder was trained on"
    )


def _first_difference(listed: pd.DataFrame, expected: pd.DataFrame, columns: list[str]) -> str:
    rows = [list(zip(*canonical(table, columns).values(), strict=True)) for table in (listed, expected)]
    row, (own, wanted) = next(
        (n, pair) for n, pair in enumerate(zip(*rows, strict=True), start=1) if pair[0] != pair[1]
    )
    return f"row {row}, found {' '.join(columns)} = {' '.join(own)}, expected {' '.join(wanted)}"


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _ratios(flat: Floats, record: VoxelRecord) -> list[float]:
    ratios = [_rms(flat - record.centre) / record.spread, float(flat.std()) / record.spread]
    over_trials = [float(np.median(flat.std(axis=0))) / record.sd.median] if len(flat) >= MIN_TRIALS else []
    return [*ratios, *over_trials]
