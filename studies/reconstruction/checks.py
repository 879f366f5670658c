"""Checks of responses that were never stored against the record that training keeps of voxels."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SourceError
from models.encoders.standardise import mean_over_time
from studies.decoding.voxel_record import Floats, VoxelOrder, VoxelRecord, VoxelScale, canonical

FACTOR = 5.0
"""How many times larger or smaller than in training new values may be."""
MIN_TRIALS = 4
"""Trials that a spread over trials needs at least."""


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


def check_order(found: pd.DataFrame, order: VoxelOrder, expected: pd.DataFrame | None, where: Path) -> list[str]:
    """Compare a voxel table with the order of voxels in training, as far as the table has its columns.

    Parameters
    ----------
    found : one row a voxel, as many as `order` was made of
    order : VoxelOrder
    expected : the table behind `order`, where the store has it: then the first difference is named
    where : the file of `found`, for messages

    Returns
    -------
    notes : what could not be checked

    Raises
    ------
    SourceError
        The same voxels in another order, or others.
    """
    common = [name for name in order.columns if name in found]
    lacking = [name for name in order.columns if name not in found]
    if not common:
        return [f"{where.name} has none of the columns {', '.join(lacking)}: the order of voxels cannot be checked"]
    own = VoxelOrder.of(found, common)
    wrong = [name for name in common if own.columns[name] != order.columns[name]]
    if wrong:
        known = None if expected is None else expected[common]
        wanted = order.unordered if not lacking else None if known is None else VoxelOrder.of(known, common).unordered
        raise _disorder(found, known, wrong, where, same=own.unordered == wanted)
    notes = []
    if lacking:
        notes.append(f"{where.name} lacks {', '.join(lacking)}: the order was checked by {', '.join(common)} alone")
    if not own.distinct:
        notes.append(f"{where.name}: voxels of the same {', '.join(common)} cannot be told apart, nor can their order")
    return notes


def _disorder(
    found: pd.DataFrame, expected: pd.DataFrame | None, wrong: list[str], where: Path, *, same: bool
) -> SourceError:
    place = "" if expected is None else f": first difference at {_first_difference(found, expected, wrong)}"
    if same:
        return SourceError(f"{where}: the same voxels in another order{place}; bring them into the order of training")
    columns = f"{', '.join(wrong)} differ{'s' if len(wrong) == 1 else ''}"
    return SourceError(
        f"{where}: other voxels than in training ({columns}{place}); give the voxels that the encoder was trained on"
    )


def _first_difference(found: pd.DataFrame, expected: pd.DataFrame, columns: list[str]) -> str:
    rows = [list(zip(*canonical(table, columns).values(), strict=True)) for table in (found, expected)]
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
