"""BOLD Moments over time: version A's responses at each TR after a clip's onset, one pickle per region and TR."""

import glob
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import SourceError, SourceMissing
from feature_store.sources.base import SPLITS, Recording, Rows, Split
from feature_store.sources.bold_moments.dataset import (
    DOWNLOAD,
    TR_S,
    WINDOW_VOXELS,
    WINDOWS,
    WINDOWS_FOLDER,
    BoldMomentsConfig,
)
from feature_store.sources.bold_moments.files import Floats, LazyRows, Reader, room_for, rows_of
from feature_store.sources.tables import present


class Windows(Reader):
    """BOLD windows of regions, (trial, time, voxel), region by region in the order asked for."""

    def __init__(self, config: BoldMomentsConfig, path: Path, rois: tuple[str, ...]) -> None:
        super().__init__(config, path, rois)
        self.folder = path / WINDOWS_FOLDER / f"TR{config.trs[0]}"

    def subjects(self) -> list[str]:
        """Return the subjects of whom there are responses, sorted."""
        return sorted(entry.name for entry in self.folder.glob("sub-*"))

    def responses(self, subject: str) -> Recording:
        """Return one subject's windows; the first TR is read to know the voxels, the rest when rows are asked for."""
        paths = {roi: [self._path(subject, tr, roi) for tr in self.config.trs] for roi in self.rois}
        sizes = {roi: self._size(subject, roi, of_roi[0]) for roi, of_roi in paths.items()}
        trials = self.trials()
        length, voxels = len(self.config.trs), sum(sizes.values())
        rows: dict[Split, Rows] = {
            split: WindowRows((len(trials[split]), length, voxels), partial(self._fill, paths, sizes, split))
            for split in SPLITS
        }
        table = pd.DataFrame(
            {
                "roi": np.repeat(self.rois, list(sizes.values())).astype(object),
                "index": np.concatenate([np.arange(size) for size in sizes.values()]),
            }
        )
        return Recording(subject, rows, trials, table, {"space": "MNI152", "tr_s": TR_S, "trs": self.config.trs})

    def files(self, subject: str) -> list[Path]:
        """Return the regions' files of every TR, region by region."""
        return [self._path(subject, tr, roi) for roi in self.rois for tr in self.config.trs]

    def _path(self, subject: str, tr: int, roi: str) -> Path:
        """Return the one file of a region at a TR; the middle of its name says what was averaged, in several ways."""
        pattern = WINDOWS.format(tr=tr, subject=glob.escape(subject), roi=glob.escape(roi), label="*")
        folder = self.path / Path(pattern).parent
        if not folder.is_dir():
            raise SourceMissing(f"{folder}: no such folder; download it, or mend source.trs or source.subjects")
        found = sorted(folder.glob(Path(pattern).name))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise SourceError(
                f"{folder}: {len(found)} files of region {roi} ({names}), expected one; remove the others"
            )
        mend = "download it, or name the regions that are there in source.rois"
        return present(found[0] if found else folder / Path(pattern).name, mend, or_run=DOWNLOAD)

    def _size(self, subject: str, roi: str, first: Path) -> int:
        """Return a region's voxels, which version A has differently in each subject."""
        declared = WINDOW_VOXELS.get(subject, {}).get(roi) if self.published else None
        return int(self.read_pair(first, declared)["train"].shape[-1])

    def _fill(self, paths: dict[str, list[Path]], sizes: dict[str, int], split: Split) -> Floats:
        """Read a split's windows, one file at a time."""
        trials = len(self.counts.stimuli(split)) * self.counts.repeats(split)
        windows = room_for((trials, len(self.config.trs), sum(sizes.values())))
        start = 0
        for roi, size in sizes.items():
            for time, path in enumerate(paths[roi]):
                windows[:, time, start : start + size] = rows_of(self.read_pair(path, size)[split], 0, trials)
            start += size
        return windows


class WindowRows(LazyRows):
    """Windows of one split; all of them are gathered, as float32, when the first is asked for; see `room_for`."""

    def __init__(self, shape: tuple[int, ...], fill: partial[Floats]) -> None:
        super().__init__(shape)
        self._fill = fill
        self._windows: Floats | None = None

    def _block(self, start: int, stop: int) -> Floats:
        if self._windows is None:
            self._windows = self._fill()
        return self._windows[start:stop]
