"""BOLD Moments in a whole space: version B's betas of all voxels, one pickle of 0.7 to 3.9 GB per subject and split.

Training rows are read when a recording is opened, because their file determines the voxels; test rows when they
are first asked for. A caller that drops the training rows before asking for the test rows never holds both.
"""

import glob
import re
from abc import abstractmethod
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SourceError, SourceMissing
from feature_store.sources.base import NO_ROI, SPLITS, Recording, Rows, Split, present
from feature_store.sources.bold_moments import layout
from feature_store.sources.bold_moments.layout import GENERAL, ROI_VOXELS, ROIS, WHOLE, Counts
from feature_store.sources.bold_moments.reader import (
    NAME_OTHER_REGIONS,
    Ceilings,
    Floats,
    Indices,
    Mask,
    Places,
    Reader,
    RowsOnDemand,
    Stored,
    allocate,
    check_finite,
    find_mask,
    join_places,
    mask_files,
    read_mask,
    read_roi,
    region_names,
    rows_of,
    side_by_side,
    with_places,
)
from feature_store.sources.pickles import PickledImage, load_pickle


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
        if {GENERAL, WHOLE} & {*self.rois} or not any(self.path.glob(layout.REST.format(subject=subject, roi="*"))):
            return []
        remedy = "other regions have rest: simulate again, or remove theirs as well"
        return [present(self.path / layout.REST.format(subject=subject, roi=roi), remedy) for roi in self.rois]

    def _read_rest(self, subject: str, sizes: list[int]) -> Floats | None:
        """Return rows of rest of all regions, (row, voxel), as many of each, or None where the subject has none."""
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
        sides = ["" if roi in (GENERAL, WHOLE) else roi[0] for roi in self.rois]
        voxels = _region_table(self.rois, sizes).assign(hemisphere=np.repeat(sides, sizes).astype(object))
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


def _region_table(rois: tuple[str, ...], sizes: list[int]) -> pd.DataFrame:
    """Return each voxel's region and its place in that region's file."""
    index = np.concatenate([np.arange(size) for size in sizes])
    return pd.DataFrame({"roi": np.repeat(rois, sizes).astype(object), "index": index})


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

        def cut(windows: Floats, start: int, stop: int) -> Floats:
            return windows[start:stop]

        rows: dict[Split, Rows] = {
            split: RowsOnDemand((len(trials[split]), length, voxels), partial(self._fill, paths, sizes, split), cut)
            for split in SPLITS
        }
        table = _region_table(self.rois, list(sizes.values()))
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


_NUMBER = re.compile(r"\D*(\d{4})(?:\.mp4)?")
"""How a stimulus is named beside the betas: ``vid0001``."""


class SpaceBetas(Reader):
    """Betas of all voxels of a space, (trial, voxel), in the order of the files."""

    def __init__(self, path: Path, counts: Counts, rois: tuple[str, ...], space: str) -> None:
        super().__init__(path, counts, rois)
        self.space = space
        self.folder = path / layout.GLM_FOLDER.format(space=self.space)
        self.ceilings = Ceilings(self, self.space)

    def subjects(self) -> list[str]:
        """Return the subjects of whom there are responses, sorted."""
        return sorted(entry.parent.name for entry in self.folder.glob("sub-*/prepared_betas"))

    def responses(self, subject: str) -> Recording:
        """Return one subject's betas; see the module's description for what is read when."""
        arrays, image = self._read(subject, "train", self._declared(subject))
        sizes = [array.shape[-1] for array in arrays]
        voxels, attributes, regions, columns = self._voxels(subject, sizes, image)
        load = partial(self._checked, subject, sizes=sizes, regions=regions)
        self._check_regions(subject, "train", arrays, regions)
        cut = partial(side_by_side, columns)
        trials = self.trials()
        rows: dict[Split, Rows] = {
            "train": RowsOnDemand((len(trials["train"]), len(voxels)), lambda: arrays, cut),
            "test": RowsOnDemand((len(trials["test"]), len(voxels)), partial(load, "test"), cut),
        }
        return Recording(subject, rows, trials, voxels, {"space": self.space, **attributes})

    def files(self, subject: str) -> list[Path]:
        """Return the files of betas, then those of the voxels' places and noise ceilings."""
        betas = chain(*(self._betas(subject, split) for split in ("train", "test")))
        return [*betas, *self._place_files(subject), *self.ceilings.files(subject)]

    def _betas(self, subject: str, split: Split) -> list[Path]:
        names = {"space": self.space, "subject": subject, "split": split}
        relative = [layout.ORGANIZED.format(**names)]
        if self.space == "fsaverage":
            relative = [layout.ORGANIZED_HEMISPHERE.format(**names, hemisphere=side) for side in layout.HEMISPHERES]
        return self.needed(subject, relative, "download it: both splits and hemispheres are needed")

    def _read(
        self, subject: str, split: Split, sizes: list[int] | list[None]
    ) -> tuple[list[Stored], PickledImage | None]:
        """Read a split's files. All but the last become float32 at once, so that two never lie in memory as float64."""
        arrays, image = list[Stored](), None
        for path, size in zip(self._betas(subject, split), sizes, strict=True):
            arrays[:] = [array.astype(np.float32, copy=False) for array in arrays]
            image = self._organized(arrays, path, split, size)
        return arrays, image

    def _organized(self, arrays: list[Stored], path: Path, split: Split, voxels: int | None) -> PickledImage | None:
        """Read one file: betas (stimulus, repetition, voxel), names of the stimuli, and in MNI152 a mask image.

        The betas are appended to `arrays`, so that no other name keeps them in memory.
        """
        content = load_pickle(path)
        if not isinstance(content, list | tuple) or len(content) < 2 or not isinstance(content[0], np.ndarray):
            raise SourceError(f"{path}: expected betas and the names of their stimuli; fetch the file again")
        array = np.asarray(content[0])
        known = voxels if voxels is not None else array.shape[-1] if array.ndim else 0
        self.check_shape(path, split, array, known, "betas")
        self._check_names(path, split, content[1])
        arrays.append(array)
        return next((part for part in content[2:] if isinstance(part, PickledImage)), None)

    def _check_names(self, path: Path, split: Split, names: Any) -> None:
        expected = self.counts.stimuli(split)
        found = [str(name) for name in names] if isinstance(names, list | tuple | np.ndarray) else []
        if len(found) != len(expected):
            raise SourceError(f"{path}: names {len(found)} stimuli, expected {len(expected)}; fetch the file again")
        for row, (name, stimulus) in enumerate(zip(found, expected, strict=True)):
            number = _NUMBER.fullmatch(name)
            if number is None or number[1] != stimulus:
                raise SourceError(
                    f"{path}: row {row} is '{name[:40]}', expected '{layout.STIMULUS_NAME.format(stimulus=stimulus)}': "
                    "stimuli are in the order of their numbers; fetch the file again"
                )

    def _checked(self, subject: str, split: Split, *, sizes: list[int], regions: dict[str, Indices]) -> list[Stored]:
        arrays, _ = self._read(subject, split, sizes)
        self._check_regions(subject, split, arrays, regions)
        return arrays

    def _check_regions(self, subject: str, split: Split, arrays: list[Stored], regions: dict[str, Indices]) -> None:
        for path, array in zip(self._betas(subject, split), arrays, strict=True):
            check_finite(path, array, "betas")
            for roi, columns in regions.items():
                check_finite(path, array, f"region {roi}", columns)

    def _with_ncsnr(self, subject: str, voxels: pd.DataFrame, sizes: list[int]) -> pd.DataFrame:
        for column, paths in self.ceilings.columns(subject).items():
            parts = [self.ceilings.read(path, size)[0] for path, size in zip(paths, sizes, strict=True)]
            voxels = voxels.assign(**{column: np.concatenate(parts)})
        return voxels

    @abstractmethod
    def _declared(self, subject: str) -> list[int] | list[None]:
        """Return the voxels of each file, None where they are not known."""

    @abstractmethod
    def _place_files(self, subject: str) -> list[Path]:
        """Return the files of the voxels' places."""

    @abstractmethod
    def _voxels(
        self, subject: str, sizes: list[int], image: PickledImage | None
    ) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Indices], Indices | None]:
        """Return the voxel table, attributes, the columns of each region asked for, and those to read (None: all)."""


class VolumeBetas(SpaceBetas):
    """Betas of MNI152: of all voxels, or of those in the regions asked for, region by region and each voxel once."""

    def _declared(self, subject: str) -> list[int] | list[None]:
        known = layout.MNI_VOXELS.get(subject) if self.published else None
        return [None] if known is None else [known]

    def _place_files(self, subject: str) -> list[Path]:
        return [*mask_files(self, subject), *self._index_files(subject).values()]

    def _index_files(self, subject: str) -> dict[str, Path]:
        """Return the index files of the regions asked for, which must be there, or of all that are there."""
        if self.rois:
            paths = {roi: self.path / layout.ROI_INDICES.format(subject=subject, roi=roi) for roi in self.rois}
            return {roi: present(path, NAME_OTHER_REGIONS, or_run=layout.DOWNLOAD) for roi, path in paths.items()}
        found = {roi: self.there(layout.ROI_INDICES.format(subject=subject, roi=roi)) for roi in (*ROIS, GENERAL)}
        return {roi: path for roi, path in found.items() if path is not None}

    def _voxels(
        self, subject: str, sizes: list[int], image: PickledImage | None
    ) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Indices], Indices | None]:
        (count,) = sizes
        path = self._betas(subject, "train")[0]
        mask = find_mask(count, path, image, mask_files(self, subject), "voxels")
        regions = self._regions(subject, mask)
        voxels = pd.DataFrame({"roi": pd.Series(region_names(count, regions.items()), dtype=object)})
        voxels = self._with_ncsnr(subject, with_places(voxels, mask.places(path, count)), sizes)
        attributes = {"affine": mask.affine.tolist()}
        if not self.rois:
            return voxels, attributes, {}, None
        columns = _once(regions.values())
        return voxels.iloc[columns].reset_index(drop=True), attributes, regions, columns

    def _regions(self, subject: str, mask: Mask) -> dict[str, Indices]:
        regions = {}
        for roi, path in self._index_files(subject).items():
            places = read_roi(path)
            if not np.allclose(places.affine, mask.affine):
                raise SourceError(f"{path}: another affine than the mask of the betas, expected one; fetch both again")
            regions[roi] = mask.positions(places.ijk, path)
        return regions


class SurfaceBetas(SpaceBetas):
    """Betas of fsLR32k's grayordinates, or of fsaverage's vertices, left hemisphere first; no regions are published."""

    def _declared(self, subject: str) -> list[int] | list[None]:
        del subject
        if self.space == "fsaverage":
            return [layout.FSAVERAGE_VERTICES] * 2 if self.published else [None, None]
        return [layout.FSLR_VOXELS] if self.published else [None]

    def _place_files(self, subject: str) -> list[Path]:
        del subject
        return []

    def _voxels(
        self, subject: str, sizes: list[int], image: PickledImage | None
    ) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Indices], Indices | None]:
        del image
        voxels = pd.DataFrame({"roi": pd.Series([NO_ROI] * sum(sizes), dtype=object)})
        if len(sizes) == len(layout.HEMISPHERES):
            voxels["hemisphere"] = np.repeat(["l", "r"], sizes).astype(object)
        elif sizes == [layout.FSLR_VOXELS]:
            voxels["hemisphere"] = np.repeat(
                ["l", "r", ""], [*layout.FSLR_CORTEX, layout.FSLR_VOXELS - sum(layout.FSLR_CORTEX)]
            ).astype(object)
        return self._with_ncsnr(subject, voxels, sizes), {}, {}, None


def _once(regions: Any) -> NDArray[np.int64]:
    """Return the columns of several regions one after the other, each column where it comes first."""
    columns = np.concatenate(list(regions))
    _, first = np.unique(columns, return_index=True)
    return np.asarray(columns[np.sort(first)])
