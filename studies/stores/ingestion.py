"""Writes one subject's recording as a group of the feature store."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SourceError
from core.progress import report
from feature_store.chunks import Compression
from feature_store.noise_ceiling import agreement, copied_trials, missing_values, ncsnr
from feature_store.rows import ChunkedRows
from feature_store.schema import UNLABELLED
from feature_store.sources.base import ROI_SEPARATOR, SPLITS, Recording, RecordingShape, Rows
from feature_store.writer import GroupWriter


def write_responses(store: Path, recording: Recording, source: str, compression: Compression, fingerprint: str) -> None:
    """Write a recording to ``<store>/responses/<subject>``, with every voxel's noise-ceiling SNR of either split.

    Raises `SourceError` where a region holds nothing but NaN, or a value is beyond what float32 holds.

    Parameters
    ----------
    recording : is emptied split by split, so that a whole brain's splits are never in memory together
    source : the source's kind, an attribute of the group
    """
    report(RecordingShape.of(recording).summary(), 1, 1)
    for note in recording.attributes.get("notes", ()):
        report(f"{recording.subject}: {note}", 1, 1)
    attributes = {**recording.attributes, "subject": recording.subject, "source": source}
    name = f"responses/{recording.subject}"
    with GroupWriter(store, name, encoding_type="responses", fingerprint=fingerprint, **attributes) as group:
        voxels, missing = recording.voxels, dict[str, int]()
        for split in SPLITS:
            values = Float32Rows(recording.values.pop(split), f"{recording.subject}, {split} trial")
            _write_betas(group, f"{split}/betas", values, "trial", compression)
            group.table(f"{split}/trials", recording.trials[split])
            rows, stimuli = group.rows(f"{split}/betas"), list(recording.trials[split]["stimulus"])
            missing[split] = _count_missing(recording, split, rows)
            voxels = voxels.assign(**{f"ncsnr_{split}": ncsnr(rows, stimuli)})
            if copies := copied_trials(rows, stimuli):
                report(
                    f"{recording.subject}: {copies:,} of {len(stimuli):,} {split} trials are copies, bit for bit, of "
                    "an earlier trial of their stimulus: repetitions without noise of their own",
                    1,
                    1,
                )
        if recording.unlabelled is not None:
            values = Float32Rows(recording.unlabelled, f"{recording.subject}, row without a stimulus")
            _write_betas(group, UNLABELLED, values, "row", compression)
            missing["unlabelled"] = _count_missing(recording, "unlabelled", group.rows(UNLABELLED))
        group.table("voxels", voxels)
        group.describe(nan_voxels=missing, noise_ceiling_agreement=agreement(voxels))


class Float32Rows:
    """Rows as float32; raises `SourceError` where a finite value is beyond it. NaN and infinity stay.

    Parameters
    ----------
    what : of each row, for messages
    """

    def __init__(self, rows: Rows, what: str) -> None:
        self._rows, self._what = rows, what
        self.shape = rows.shape

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        read = np.asarray(self._rows[rows])
        with np.errstate(over="ignore"):
            held = read.astype(np.float32, copy=False)
        beyond = np.isinf(held) & np.isfinite(read) if read.dtype.itemsize > held.dtype.itemsize else None
        if beyond is not None and beyond.any():
            row, *_, voxel = np.argwhere(beyond)[0]
            raise SourceError(
                f"{self._what} {(rows.start or 0) + row} (the first is 0), voxel {voxel}: holds "
                f"{read[beyond][0]:g}, more than float32 holds; correct the responses"
            )
        return held


def _write_betas(group: GroupWriter, name: str, values: Rows, first_axis: str, compression: Compression) -> None:
    axes = (first_axis, "time", "voxel") if len(values.shape) == 3 else (first_axis, "voxel")
    group.array(name, tuple(values.shape), "float32", lambda a, b: values[a:b], axes, compression=compression)


def _count_missing(recording: Recording, part: str, rows: ChunkedRows) -> int:
    """Return how many voxels hold NaN in a split or in ``"unlabelled"``; they are stored unchanged."""
    missing = missing_values(rows)
    regions = recording.voxels["roi"].astype(str).str.split(ROI_SEPARATOR).reset_index(drop=True).explode()
    empty = pd.Series((missing == len(rows))[regions.index]).groupby(regions.to_numpy()).all()
    if empty.any():
        raise SourceError(
            f"{recording.subject}: no voxel of {empty.index[empty.to_numpy()][0]} holds a finite value in {part}; "
            "check the recordings, or leave this region out"
        )
    count = int((missing > 0).sum())
    if count:
        report(f"{recording.subject}: {count:,} of {len(missing):,} voxels hold NaN in {part}, kept as they are", 1, 1)
    return count
