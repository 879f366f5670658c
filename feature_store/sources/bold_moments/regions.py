"""BOLD Moments by region: version B's betas and version A's responses at each TR, one pickle a region (and TR).

A simulated dataset may hold rows of rest in a second pickle per region. The published one has raw runs of rest but no
betas of them, so it has no such file.
"""

import glob
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import SourceError, SourceMissing
from feature_store.sources.base import SPLITS, Recording, Rows, Split, present
from feature_store.sources.bold_moments import layout
from feature_store.sources.bold_moments.layout import GENERAL, ROI_VOXELS, WHOLE, Counts
from feature_store.sources.bold_moments.reader import (
    NAME_OTHER_REGIONS,
    Ceilings,
    Floats,
    Places,
    Reader,
    RowsOnDemand,
    allocate,
    check_finite,
    find_mask,
    join_places,
    mask_files,
    read_mask,
    read_roi,
    rows_of,
    with_places,
)
from feature_store.sources.pickles import load_pickle


class RoiBetas(Reader):
    """Betas of regions, (trial, voxel), region by region in the order asked for.

    A voxel that lies in two of the regions comes twice, as the files have it.
    """

    def __init__(self, path: Path, counts: Counts, rois: tuple[str, ...]) -> None:
        super().__init__(path, counts, rois)
        self.folder = path / layout.BETAS_FOLDER
        self.ceilings = Ceilings(self, "MNI152")

    def responses(self, subject: str) -> Recording:
        """Return one subject's betas; they are small enough to be read at once."""
        parts: dict[Split, list[Floats]] = {split: [] for split in SPLITS}
        for path, roi in zip(self._betas(subject), self.rois, strict=True):
            for split, stored in self.read_pair(path, self._declared(subject, roi)).items():
                parts[split].append(stored.reshape(-1, stored.shape[-1]).astype(np.float32))
        sizes = [part.shape[1] for part in parts["train"]]
        values: dict[Split, Rows] = {split: np.concatenate(parts.pop(split), axis=1) for split in SPLITS}
        voxels, attributes = self._voxels(subject, sizes)
        unlabelled = self._read_rest(subject, sizes)
        return Recording(subject, values, self.trials(), voxels, {"space": "MNI152", **attributes}, unlabelled)

    def files(self, subject: str) -> list[Path]:
        """Return the regions' files, those of rest, and those of the voxels' places and noise ceilings."""
        places = self._place_files(subject)
        ceilings = self.ceilings.files(subject) if places else []
        masks = mask_files(self, subject) if ceilings else []
        return list(dict.fromkeys([*self._betas(subject), *self._rest(subject), *places, *masks, *ceilings]))

    def _betas(self, subject: str) -> list[Path]:
        names = [layout.BETAS.format(subject=subject, roi=roi) for roi in self.rois]
        return self.needed(subject, names, NAME_OTHER_REGIONS)

    def _rest(self, subject: str) -> list[Path]:
        """Return the regions' files of rest: none where the dataset has none, or for a region without a side."""
        if not any(self.path.glob(layout.REST.format(subject=subject, roi="*"))) or {
            GENERAL,
            WHOLE,
        } & set(self.rois):
            return []
        remedy = "other regions have rest: simulate again, or remove theirs as well"
        return [present(self.path / layout.REST.format(subject=subject, roi=roi), remedy) for roi in self.rois]

    def _read_rest(self, subject: str, sizes: list[int]) -> Floats | None:
        """Return rows of rest of all regions, (row, voxel), or None where the subject has none.

        Raises
        ------
        SourceMissing, SourceError
            A region lacks its file, or a file does not hold the same number of rows of that region's voxels.
        """
        paths = self._rest(subject)
        if not paths:
            return None
        parts: list[Floats] = []
        for path, size in zip(paths, sizes, strict=True):
            parts.append(_read_rest(path, len(parts[0]) if parts else None, size))
        return np.concatenate(parts, axis=1)

    def _declared(self, subject: str, roi: str) -> int | None:
        if not self.published:
            return None
        if roi == WHOLE:
            return layout.MNI_VOXELS.get(subject)
        return layout.GENERAL_VOXELS if roi == GENERAL else ROI_VOXELS[roi[1:]]["lr".index(roi[0])]

    def _place_files(self, subject: str) -> list[Path]:
        """Return the files of the places of the regions' voxels, or none where one of them is absent."""
        names = [layout.SUBJECT_MASK if roi == WHOLE else layout.ROI_INDICES for roi in self.rois]
        found = [self.there(name.format(subject=subject, roi=roi)) for name, roi in zip(names, self.rois, strict=True)]
        return [path for path in found if path is not None] if None not in found else []

    def _voxels(self, subject: str, sizes: list[int]) -> tuple[pd.DataFrame, dict[str, object]]:
        voxels = pd.DataFrame(
            {
                "roi": np.repeat(self.rois, sizes).astype(object),
                "index": np.concatenate([np.arange(size) for size in sizes]),
                "hemisphere": np.repeat([_side(roi) for roi in self.rois], sizes).astype(object),
            }
        )
        files = self._place_files(subject)
        if not files:
            return voxels, {}
        places = join_places([self._place(*region) for region in zip(files, self.rois, sizes, strict=True)], files)
        voxels = self._with_ncsnr(subject, with_places(voxels, places), places)
        return voxels, {"affine": places.affine.tolist()}

    @staticmethod
    def _place(path: Path, roi: str, size: int) -> Places:
        return read_mask(path).places(path, size) if roi == WHOLE else read_roi(path, size)

    def _with_ncsnr(self, subject: str, voxels: pd.DataFrame, places: Places) -> pd.DataFrame:
        """Add the published ncsnr of the whole space at the regions' places."""
        for column, (path,) in self.ceilings.columns(subject).items():
            ncsnr, image = self.ceilings.read(path)
            mask = find_mask(len(ncsnr), path, image, mask_files(self, subject), "noise ceilings")
            voxels = voxels.assign(**{column: ncsnr[mask.positions(places.ijk, path)]})
        return voxels


def _read_rest(path: Path, rows: int | None, voxels: int) -> Floats:
    """Return one region's rows of rest: as many as the other regions have, where that is known."""
    content = load_pickle(path)
    if not isinstance(content, dict) or layout.REST_KEY not in content:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise SourceError(f"{path}: lacks {layout.REST_KEY} (found: {found}); simulate again")
    stored = np.asarray(content[layout.REST_KEY])
    if stored.shape != (rows or len(np.atleast_1d(stored)), voxels) or stored.dtype.kind != "f":
        raise SourceError(
            f"{path}: {layout.REST_KEY} has shape {stored.shape} of {stored.dtype}, expected "
            f"({rows or 'row'}, {voxels}) of floats (row, voxel), as other regions' rest "
            "and this region's betas have; simulate again"
        )
    check_finite(path, stored, layout.REST_KEY)
    return stored.astype(np.float32)


def _side(roi: str) -> str:
    return "" if roi in (GENERAL, WHOLE) else roi[0]


class Windows(Reader):
    """BOLD windows of regions, (trial, time, voxel), region by region in the order asked for."""

    def __init__(self, path: Path, counts: Counts, rois: tuple[str, ...], trs: list[int]) -> None:
        super().__init__(path, counts, rois)
        self.trs = trs
        self.folder = path / layout.WINDOWS_FOLDER / f"TR{trs[0]}"

    def responses(self, subject: str) -> Recording:
        """Return one subject's windows; the first TR is read to know the voxels, the rest when rows are asked for."""
        paths = {roi: [self._path(subject, tr, roi) for tr in self.trs] for roi in self.rois}
        sizes = {roi: self._size(subject, roi, of_roi[0]) for roi, of_roi in paths.items()}
        trials = self.trials()
        length, voxels = len(self.trs), sum(sizes.values())
        rows: dict[Split, Rows] = {
            split: RowsOnDemand((len(trials[split]), length, voxels), partial(self._fill, paths, sizes, split), _rows)
            for split in SPLITS
        }
        table = pd.DataFrame(
            {
                "roi": np.repeat(self.rois, list(sizes.values())).astype(object),
                "index": np.concatenate([np.arange(size) for size in sizes.values()]),
            }
        )
        return Recording(subject, rows, trials, table, {"space": "MNI152", "tr_s": layout.TR_S, "trs": self.trs})

    def files(self, subject: str) -> list[Path]:
        """Return the regions' files of every TR, region by region."""
        return [self._path(subject, tr, roi) for roi in self.rois for tr in self.trs]

    def _path(self, subject: str, tr: int, roi: str) -> Path:
        """Return the one file of a region at a TR; the middle of its name, which describes the averaging, differs."""
        pattern = layout.WINDOWS.format(tr=tr, subject=glob.escape(subject), roi=glob.escape(roi), label="*")
        folder = self.path / Path(pattern).parent
        if not folder.is_dir():
            raise SourceMissing(f"{folder}: no such folder; download it, or fix source.trs or source.subjects")
        found = sorted(folder.glob(Path(pattern).name))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise SourceError(
                f"{folder}: {len(found)} files of region {roi} ({names}), expected one; remove the others"
            )
        path = found[0] if found else folder / Path(pattern).name
        return present(path, NAME_OTHER_REGIONS, or_run=layout.DOWNLOAD)

    def _size(self, subject: str, roi: str, first: Path) -> int:
        """Return a region's voxels, which version A has differently in each subject."""
        declared = layout.WINDOW_VOXELS.get(subject, {}).get(roi) if self.published else None
        return int(self.read_pair(first, declared)["train"].shape[-1])

    def _fill(self, paths: dict[str, list[Path]], sizes: dict[str, int], split: Split) -> Floats:
        """Read a split's windows, one file at a time."""
        trials = len(self.counts.stimuli(split)) * self.counts.repeats(split)
        windows = allocate((trials, len(self.trs), sum(sizes.values())))
        start = 0
        for roi, size in sizes.items():
            for time, path in enumerate(paths[roi]):
                windows[:, time, start : start + size] = rows_of(self.read_pair(path, size)[split], 0, trials)
            start += size
        return windows


def _rows(windows: Floats, start: int, stop: int) -> Floats:
    return windows[start:stop]
