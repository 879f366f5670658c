"""How much of a voxel's response is signal: the noise-ceiling SNR, from the repeats of each stimulus.

    noise² = mean over stimuli of the variance over repeats (ddof 1)
    signal² = max(variance over all trials (ddof 0) - noise², 0)
    ncsnr = signal / noise
    noise ceiling in % of the variance of a mean over n repeats = 100 · ncsnr² / (ncsnr² + 1/n)

Allen et al. (2022), A massive 7T fMRI dataset; the same estimate that BOLD Moments publishes. Training and test trials
are estimated apart: voxels may be chosen by the training estimate, never by the test one.
"""

import hashlib
import math
from typing import Any, Protocol

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray

from core.progress import report
from feature_store.rows import group_by_name

Floats = NDArray[np.float32]
BLOCK_BYTES = 64 * 2**20
COMPARED_VOXELS = 256
"""Two trials that are equal in so many voxels are copies of one measurement."""


class Trials(Protocol):
    """Rows on disk or in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(trial, voxel) or (trial, time, voxel)."""
        ...

    @property
    def is_mapped(self) -> bool:
        """Whether rows can be read again and again at no cost."""
        ...

    def take(self, rows: NDArray[np.integer[Any]], columns: slice, /) -> NDArray[Any]:
        """Return trials, and of each only some voxels."""
        ...


def ncsnr(trials: Trials, stimuli: list[str]) -> Floats:
    """Estimate every voxel's noise-ceiling SNR, (voxel,), some voxels at a time; a window's time points are averaged.

    It is NaN where a voxel holds NaN, where repeats never differ, and everywhere if no stimulus was repeated.
    """
    order, counts, _ = group_by_name(stimuli)
    repeated = np.repeat(counts > 1, counts)
    voxels = trials.shape[-1]
    if not repeated.any():
        return np.full(voxels, np.nan, np.float32)
    rows, counts = order[repeated], counts[counts > 1]
    # Compressed chunks are decompressed once a block, so blocks are then as large as memory allows.
    block_bytes = BLOCK_BYTES if trials.is_mapped else max(BLOCK_BYTES, psutil.virtual_memory().available // 8)
    step = max(1, block_bytes // (8 * math.prod(trials.shape[1:-1]) * len(rows)))
    parts = []
    for first in range(0, voxels, step):
        parts.append(_ncsnr(trials.take(rows, slice(first, first + step)), counts))
        if step < voxels:
            report("estimating noise ceilings", min(first + step, voxels), voxels)
    return np.concatenate(parts)


def missing_values(trials: Trials) -> NDArray[np.int64]:
    """Return in how many trials each voxel is NaN or infinite, (voxel,); some trials are read at a time."""
    count = np.zeros(trials.shape[-1], np.int64)
    step = max(1, BLOCK_BYTES // (4 * int(np.prod(trials.shape[1:], dtype=np.int64))))
    for first in range(0, trials.shape[0], step):
        bad = ~np.isfinite(trials.take(np.arange(first, min(first + step, trials.shape[0])), slice(None)))
        count += bad.reshape(len(bad), -1, trials.shape[-1]).any(axis=1).sum(axis=0)
    return count


def copied_trials(trials: Trials, stimuli: list[str]) -> int:
    """Return how many trials are equal, bit for bit, to an earlier trial of their stimulus; measured ones never are.

    Trials that hold one value in all voxels, such as 0, do not count. The first `COMPARED_VOXELS` are compared.
    """
    seen, copies = set[tuple[str, bytes]](), 0
    step = max(1, BLOCK_BYTES // (4 * int(np.prod(trials.shape[1:], dtype=np.int64))))
    for first in range(0, trials.shape[0], step):
        rows = np.arange(first, min(first + step, trials.shape[0]))
        for row, values in zip(rows, trials.take(rows, slice(0, COMPARED_VOXELS)), strict=True):
            known = values[np.isfinite(values)]
            if known.size and (known != known[0]).any():
                key = (stimuli[row], hashlib.sha256(values.tobytes()).digest())
                copies += key in seen
                seen.add(key)
    return copies


def noise_ceiling(ratio: NDArray[Any], repeats: int) -> NDArray[np.float64]:
    """Return the noise ceiling in % of explainable variance for means over `repeats` trials, from the ncsnr."""
    power = np.asarray(ratio, dtype=np.float64) ** 2
    return np.asarray(100 * power / (power + 1 / repeats))


def agreement(voxels: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Compare our estimate with the published one, where both are in a voxel table.

    Returns
    -------
    ``{"train": {"voxels", "correlation", "median_difference"}, "test": …}``; a split without both is left out
    """
    result = {}
    for split in ("train", "test"):
        names = [f"ncsnr_{split}", f"ncsnr_{split}_published"]
        if not set(names) <= set(voxels):
            continue
        both = voxels[names].astype("float64").dropna()
        if len(both) > 1:
            ours, theirs = both[names[0]].to_numpy(), both[names[1]].to_numpy()
            varied = ours.std() > 0 and theirs.std() > 0
            result[split] = {
                "voxels": len(both),
                "correlation": round(float(np.corrcoef(ours, theirs)[0, 1]), 6) if varied else 0.0,
                "median_difference": round(float(np.median(ours - theirs)), 6),
            }
    return result


def _ncsnr(trials: NDArray[Any], counts: NDArray[np.int64]) -> Floats:
    """Estimate some voxels from trials that are ordered stimulus by stimulus."""
    values = trials.astype(np.float64) if trials.ndim == 2 else trials.mean(axis=1, dtype=np.float64)
    values -= values.mean(axis=0)
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(values, starts, axis=0) / counts[:, None]
    np.square(values, out=values)  # in place: this block is the largest thing in memory
    total = values.mean(axis=0)
    within = (np.add.reduceat(values, starts, axis=0) - counts[:, None] * means**2) / (counts[:, None] - 1)
    noise = within.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(np.maximum(total - noise, 0) / noise)
    return np.where(np.isfinite(ratio), ratio, np.nan).astype(np.float32)
