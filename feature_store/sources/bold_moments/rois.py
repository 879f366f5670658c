"""BOLD Moments by region: version B's betas in MNI152, one pickle per subject and region.

A simulated dataset may hold rows of rest in a second pickle per region. The published one has raw runs of rest but no
betas of them, so it has no such file.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import SourceError, SourceMissing
from feature_store.sources.base import SPLITS, Recording, Rows, Split
from feature_store.sources.bold_moments.dataset import (
    BETAS,
    BETAS_FOLDER,
    DOWNLOAD,
    GENERAL,
    GENERAL_VOXELS,
    MNI_VOXELS,
    REST,
    REST_KEY,
    ROI_INDICES,
    ROI_VOXELS,
    SUBJECT_MASK,
    WHOLE,
    BoldMomentsConfig,
)
from feature_store.sources.bold_moments.files import Floats, Reader, check_finite
from feature_store.sources.bold_moments.voxels import (
    Ceilings,
    Places,
    find_mask,
    join_places,
    mask_files,
    read_mask,
    read_roi,
    with_places,
)
from feature_store.sources.pickles.unpickle import load_pickle
from feature_store.sources.tables import present


class RoiBetas(Reader):
    """Betas of regions, (trial, voxel), region by region in the order asked for.

    A voxel that lies in two of the regions comes twice, as the files have it.
    """

    def __init__(self, config: BoldMomentsConfig, path: Path, rois: tuple[str, ...]) -> None:
        super().__init__(config, path, rois)
        self.folder = path / BETAS_FOLDER
        self.ceilings = Ceilings(self, "MNI152")

    def subjects(self) -> list[str]:
        """Return the subjects of whom there are responses, sorted."""
        return sorted(entry.name for entry in self.folder.glob("sub-*"))

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
        """Return the regions' files, those of rest, and those that say where voxels lie and how good they are."""
        places = self._place_files(subject)
        ceilings = self.ceilings.files(subject) if places else []
        masks = mask_files(self, subject) if ceilings else []
        return list(dict.fromkeys([*self._betas(subject), *self._rest(subject), *places, *masks, *ceilings]))

    def _betas(self, subject: str) -> list[Path]:
        folder = self.folder / subject
        if not folder.is_dir():
            raise SourceMissing(f"{folder}: no such subject; download it or mend source.subjects")
        mend = "download it, or name the regions that are there in source.rois"
        paths = [self.path / BETAS.format(subject=subject, roi=roi) for roi in self.rois]
        return [present(path, mend, or_run=DOWNLOAD) for path in paths]

    def _rest(self, subject: str) -> list[Path]:
        """Return the regions' files of rest: none where nobody wrote any, or a region without a side is asked for."""
        if not any(self.path.glob(REST.format(subject=subject, roi="*"))) or {GENERAL, WHOLE} & set(self.rois):
            return []
        mend = "other regions have rest: simulate again, or remove theirs as well"
        return [present(self.path / REST.format(subject=subject, roi=roi), mend) for roi in self.rois]

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
            return MNI_VOXELS.get(subject)
        return GENERAL_VOXELS if roi == GENERAL else ROI_VOXELS[roi[1:]]["lr".index(roi[0])]

    def _place_files(self, subject: str) -> list[Path]:
        """Return the files that say where the regions' voxels lie, or none where one of them is absent."""
        names = [SUBJECT_MASK if roi == WHOLE else ROI_INDICES for roi in self.rois]
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
        places = join_places([self._place(*one) for one in zip(files, self.rois, sizes, strict=True)], files)
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
    if not isinstance(content, dict) or REST_KEY not in content:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise SourceError(f"{path}: lacks {REST_KEY} (found: {found}); simulate again")
    stored = np.asarray(content[REST_KEY])
    if stored.shape != (rows or len(np.atleast_1d(stored)), voxels) or stored.dtype.kind != "f":
        raise SourceError(
            f"{path}: {REST_KEY} has shape {stored.shape} of {stored.dtype}, expected ({rows or 'row'}, {voxels}) of "
            "floats (row, voxel), as other regions' rest and this region's betas have; simulate again"
        )
    check_finite(path, stored, REST_KEY)
    return stored.astype(np.float32)


def _side(roi: str) -> str:
    return "" if roi in (GENERAL, WHOLE) else roi[0]
