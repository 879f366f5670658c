"""The record that training keeps of a subject's voxels; responses recorded later are checked against it.

A record is small JSON and needs no store beside it: how many voxels there are and in which order, where they lie, and
on which scale they responded.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import Config
from core.errors import StoreError
from core.files import digest_json
from core.progress import report
from feature_store import Responses, Store
from feature_store.rows import BLOCK_BYTES, RowView
from models.encoders.linear import Standardise, mean_over_time

TEXT = ("roi", "hemisphere", "index")
INDICES = ("i", "j", "k")
PLACES = ("x", "y", "z")
DESCRIBED = ("source", "space", "units", "normalisation", "response", "tr_s")
"""Attributes of a group with the units and the origin of its responses."""
VARIES = 1e-8  # a voxel whose sd is not above this is constant, as encoders see it

Floats = NDArray[np.float64]
Rois = list[str] | None
Stimuli = Collection[str] | None


class VoxelOrder(Config):
    """Which voxels there are and in which order, as digests of a voxel table's identifying columns.

    Digested are the columns `TEXT` and `INDICES` as far as they are there, and `PLACES` only where the indices are not
    (which are exact, and imply the places). A table read from a CSV file has the digests of the store's own.

    Attributes
    ----------
    columns : by column, the SHA-256 of its values in the table's order
    digest : SHA-256 of all of these together
    unordered : SHA-256 of the rows in sorted order: the same for the same voxels in another order
    distinct : whether the columns tell every voxel from every other
    """

    columns: dict[str, str]
    digest: str
    unordered: str
    distinct: bool

    @classmethod
    def of(cls, table: pd.DataFrame, columns: Collection[str] | None = None) -> "VoxelOrder":
        """Digest a table, or only some of its columns."""
        if columns is None:
            columns = [name for name in (*TEXT, *(INDICES if set(INDICES) <= set(table) else PLACES)) if name in table]
        values = canonical(table, columns)
        rows = list(zip(*values.values(), strict=True))
        return cls(
            columns={name: digest_json(column) for name, column in values.items()},
            digest=digest_json(values),
            unordered=digest_json([list(values), sorted(rows)]),
            distinct=len(set(rows)) == len(table),
        )


class Spread(Config):
    """A quantity's 5th, 50th and 95th percentile over voxels."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> "Spread":
        """Summarise one value a voxel."""
        low, median, high = (_short(value) for value in np.quantile(values, (0.05, 0.5, 0.95)))
        return cls(low=low, median=median, high=high)


class VoxelRecord(Config):
    """One subject's voxels as an encoder was trained on them.

    Attributes
    ----------
    voxels, stored_voxels : how many the encoder takes, and how many the store's group holds
    time_points : of a window; None for betas
    rois : the regions that were chosen, None for all voxels
    order : of the voxels that the encoder takes
    affine, grid : from voxel indices to mm, (4, 4), and the volume's shape; None where the store has none
    trials : how many training trials the following are over
    left_out : how many voxels are constant or not finite in training, which encoders do not use
    mean, sd : of the other voxels, over training trials; a window's time points are averaged first
    centre, spread : mean and standard deviation of all their values together
    described : the group's attributes of units and origin
    """

    voxels: int
    stored_voxels: int
    time_points: int | None
    rois: list[str] | None
    order: VoxelOrder
    affine: list[list[float]] | None
    grid: list[int] | None
    trials: int
    left_out: int
    mean: Spread
    sd: Spread
    centre: float
    spread: float
    described: dict[str, Any]


@dataclass(frozen=True)
class VoxelScale:
    """Every voxel's scale in training, (voxel,) each.

    Attributes
    ----------
    mean, sd : over the training trials
    kept : the voxels that vary and are finite, to which alone the others apply
    """

    mean: Floats
    sd: Floats
    kept: NDArray[np.bool_]

    @classmethod
    def of_encoder(cls, encoder: object, subject: str) -> "VoxelScale | None":
        """Return the scale that an encoder was fitted with, or None where it has none of that subject."""
        inner = encoder if isinstance(encoder, Standardise) else getattr(encoder, "standardise", None)
        if not isinstance(inner, Standardise) or subject not in inner.mean:
            return None
        mean, sd = inner.mean[subject].astype(np.float64), inner.scale[subject].astype(np.float64)
        return cls(mean, sd, inner.kept[subject])


def record_voxels(
    store: Store, subject: str, rois: Rois, stimuli: Stimuli = None, *, scale: VoxelScale | None = None
) -> VoxelRecord:
    """Record a subject's voxels from the training split; a block of trials is in memory at a time.

    Raises `StoreError` where no voxel varies in training, or the store has not these regions.

    Parameters
    ----------
    rois : the regions that training takes, None for all voxels
    stimuli : the stimuli whose trials training takes; all by default
    scale : that of an encoder fitted on these trials, which saves reading them again
    """
    group = store.responses(subject)
    table = group.voxels if rois is None else group.voxels.iloc[group.voxels_in(rois)]
    view = _training(group, rois, stimuli)
    scale = _scale(view) if scale is None else scale
    if not scale.kept.any():
        raise StoreError(f"{group.path}: no voxel of {len(table)} varies in training; check the source's responses")
    attributes = group.attributes
    return VoxelRecord(
        voxels=len(table),
        stored_voxels=len(group.voxels),
        time_points=view.shape[1] if view.ndim == 3 else None,
        rois=rois,
        order=VoxelOrder.of(table),
        affine=attributes.get("affine"),
        grid=attributes.get("grid"),
        trials=len(view),
        described={name: attributes[name] for name in DESCRIBED if name in attributes},
        **_summary(scale),
    )


def canonical(table: pd.DataFrame, columns: Collection[str]) -> dict[str, list[str]]:
    """Return columns as text, the same whether they were read from a store or from a CSV file."""
    return {name: _as_text(name, table[name]) for name in sorted(columns)}


def _as_text(name: str, column: pd.Series) -> list[str]:
    if name in TEXT:
        return ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if name in PLACES:  # sources keep millimetres as float32; 0 is added because -0 is 0
        return ["" if np.isnan(value) else str(value) for value in numbers.astype(np.float32) + np.float32(0)]
    return ["" if not math.isfinite(value) else f"{value:.15g}" for value in numbers + 0.0]


def _training(group: Responses, rois: Rois, stimuli: Stimuli) -> RowView:
    view, names = group.view("train", rois=rois)
    return view if stimuli is None else view.select(np.array([name in stimuli for name in names], dtype=bool))


def _scale(view: RowView) -> VoxelScale:
    """Merge the moments of blocks of trials (Chan et al. 1979), in float64."""
    total, mean, squares = 0, np.zeros(view.shape[-1]), np.zeros(view.shape[-1])
    step = max(1, BLOCK_BYTES // (8 * math.prod(view.shape[1:])))
    with np.errstate(invalid="ignore", over="ignore"):  # a voxel that is not finite becomes NaN
        for first in range(0, len(view), step):
            block = mean_over_time(np.asarray(view[first : first + step], dtype=np.float64))
            count, own = len(block), block.mean(axis=0)
            apart, total = own - mean, total + count
            block -= own  # in place, as is the square: blocks are the largest things in memory
            squares += np.square(block, out=block).sum(axis=0) + apart**2 * ((total - count) * count / total)
            mean += apart * (count / total)
            if step < len(view):
                report("measuring the scale of responses", min(first + step, len(view)), len(view))
    sd = np.sqrt(squares / max(total, 1))
    return VoxelScale(mean, sd, np.isfinite(sd) & (sd > VARIES))


def _summary(scale: VoxelScale) -> dict[str, Any]:
    mean, sd = scale.mean[scale.kept], scale.sd[scale.kept]
    centre = float(mean.mean())
    return {
        "left_out": int((~scale.kept).sum()),
        "mean": Spread.of(mean),
        "sd": Spread.of(sd),
        "centre": _short(centre),
        "spread": _short(float(np.sqrt(np.mean(sd**2 + (mean - centre) ** 2)))),
    }


def _short(value: float) -> float:
    """Return nine digits, which do not depend on the machine's order of summation."""
    return float(f"{value:.9g}")
