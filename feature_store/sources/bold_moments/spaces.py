"""BOLD Moments in a whole space: version B's betas of all voxels, one pickle of 0.7 to 3.9 GB per subject and split.

Training rows are read when a recording is opened, because their file determines the voxels; test rows when they
are first asked for. A caller that drops the training rows before asking for the test rows never holds both.
"""

import re
from abc import abstractmethod
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import SourceError
from feature_store.sources.base import NO_ROI, Recording, Rows, Split, present
from feature_store.sources.bold_moments import layout
from feature_store.sources.bold_moments.layout import GENERAL, ROIS, Counts
from feature_store.sources.bold_moments.reader import (
    NAME_OTHER_REGIONS,
    Ceilings,
    Indices,
    Mask,
    Reader,
    RowsOnDemand,
    Stored,
    check_finite,
    find_mask,
    mask_files,
    read_roi,
    region_names,
    side_by_side,
    with_places,
)
from feature_store.sources.pickles import PickledImage, load_pickle

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
