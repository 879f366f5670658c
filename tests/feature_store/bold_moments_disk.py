"""BOLD Moments in small: every published file of one subject, with values that tell their own address."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from core.files import write_json
from feature_store.sources.base import Split
from feature_store.sources.bold_moments.dataset import BoldMoments, BoldMomentsConfig
from feature_store.sources.bold_moments.layout import (
    ANNOTATIONS,
    BETAS,
    BETAS_KEYS,
    CEILING,
    CEILING_HEMISPHERE,
    GROUP_MASK,
    ORGANIZED,
    ORGANIZED_HEMISPHERE,
    REST,
    REST_KEY,
    ROI_INDICES,
    SUBJECT_MASK,
    TRS,
    WINDOWS,
    Counts,
)

SUBJECT = "sub-03"
COUNTS = Counts(train=4, test=2, train_repeats=3, test_repeats=5)
SHAPE = (4, 2, 2)
AFFINE = np.array([[3.0, 0, 0, -4.5], [0, 3, 0, 1], [0, 0, 3, 2], [0, 0, 0, 1]])
CELLS = np.array([0, 1, 3, 5, 6, 8, 9, 11, 12, 14])
"""The mask's cells in the flattened volume: five voxels in each hemisphere."""
REGIONS = {"lMT": [1, 3], "rMT": [5, 7, 8], "BMDgeneral": [3, 5, 9]}
"""Columns of the MNI space; every region file holds just these."""
SURFACES = {"fsLR32k": [range(6)], "fsaverage": [range(3), range(3, 7)]}
WINDOW_COLUMNS = {"V1v": range(2), "EBA": range(2, 5)}


def addresses(split: str, columns: Any) -> np.ndarray:
    """Each value tells its own address: stimulus · 100 + repetition · 10 + column."""
    stimulus, repetition, column = np.ix_(
        range(COUNTS.train if split == "train" else COUNTS.test), range(3 if split == "train" else 5), list(columns)
    )
    return stimulus * 100.0 + repetition * 10 + column


def dump(path: Path, value: Any, protocol: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))


def names(split: Split) -> list[str]:
    return [f"vid{stimulus}" for stimulus in COUNTS.stimuli(split)]


def pair(columns: Any, offset: float = 0) -> dict[str, np.ndarray]:
    return {key: addresses(split, columns) + offset for split, key in BETAS_KEYS.items()}


def mask_image(cells: Any = CELLS, affine: np.ndarray = AFFINE) -> Any:
    flat = np.zeros(np.prod(SHAPE))
    flat[list(cells)] = 1
    return nib.Nifti1Image(flat.reshape(SHAPE), affine)


def roi_path(root: Path, roi: str = "lMT") -> Path:
    return root / BETAS.format(subject=SUBJECT, roi=roi)


def rest_path(root: Path, roi: str = "lMT") -> Path:
    return root / REST.format(subject=SUBJECT, roi=roi)


def index_path(root: Path, roi: str = "lMT") -> Path:
    return root / ROI_INDICES.format(subject=SUBJECT, roi=roi)


def space_path(root: Path, space: str, split: str = "train", hemisphere: str | None = None) -> Path:
    template = ORGANIZED if hemisphere is None else ORGANIZED_HEMISPHERE
    return root / template.format(space=space, subject=SUBJECT, split=split, hemisphere=hemisphere)


def ceiling_path(root: Path, space: str, split: str, hemisphere: str | None = None) -> Path:
    """The published files of both: train for all three repeats, test for one repeat only."""
    template, n = CEILING if hemisphere is None else CEILING_HEMISPHERE, 3 if split == "train" else 1
    return root / template.format(space=space, subject=SUBJECT, split=split, hemisphere=hemisphere, n=n)


def window_path(root: Path, tr: int, roi: str = "EBA") -> Path:
    return root / WINDOWS.format(tr=tr, subject=SUBJECT, roi=roi, label=f"TR-{tr}")


def write_stimuli(root: Path) -> None:
    notes = {
        f"{i:04d}": {"set": "train" if i <= 4 else "test", "text_descriptions": [f"caption {i}"], "MiT_url": "…"}
        for i in range(1, 7)
    }
    write_json(root / ANNOTATIONS, notes)
    for stimulus, note in notes.items():
        clip = root / f"stimuli/{note['set']}/{stimulus}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(b"")


def write_rois(root: Path) -> None:
    """Write the regions' betas, and nothing that says where they lie."""
    write_stimuli(root)
    for roi, columns in REGIONS.items():
        dump(roi_path(root, roi), pair(columns))
    dump(roi_path(root, "WB"), pair(range(10)))


def write_rest(root: Path, rows: int = 4) -> None:
    """Write the regions' betas and rows of rest, as a simulation does: row · 10 + column, negative."""
    write_rois(root)
    for roi in ("lMT", "rMT"):
        dump(rest_path(root, roi), {REST_KEY: -(np.arange(rows)[:, None] * 10.0 + np.asarray(REGIONS[roi]))})


def write_places(root: Path) -> None:
    """Write index files, masks and noise ceilings of the MNI space."""
    for roi, columns in REGIONS.items():
        cells = CELLS[columns]
        ijk = np.stack(np.unravel_index(cells, SHAPE), axis=1)
        dump(index_path(root, roi), [ijk, cells, mask_image(CELLS[1:])])
    for template, cells in ((GROUP_MASK, CELLS[1:]), (SUBJECT_MASK, CELLS)):
        path = root / template.format(subject=SUBJECT)
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(mask_image(cells), path)
    write_ceilings(root, "MNI152", None, range(10), mask_image())


def write_ceilings(root: Path, space: str, hemisphere: str | None, columns: Any, *image: Any) -> None:
    """Write ncsnr that tell their column: a tenth of it in training, a twentieth in test."""
    for split, part in (("train", 10), ("test", 20)):
        ncsnr = np.asarray(columns) / part
        dump(ceiling_path(root, space, split, hemisphere), (ncsnr, 100 * ncsnr**2, *image))


def write_spaces(root: Path) -> None:
    """Write all of version B: regions, places, and the three spaces."""
    write_rois(root)
    write_places(root)
    for split in BETAS_KEYS:
        dump(space_path(root, "MNI152", split), (addresses(split, range(10)), names(split), mask_image()))
    for space, parts in SURFACES.items():
        for columns, hemisphere in zip(parts, ("left", "right") if len(parts) == 2 else (None,), strict=True):
            for split in BETAS_KEYS:
                dump(space_path(root, space, split, hemisphere), (addresses(split, columns), names(split)))
            write_ceilings(root, space, hemisphere, columns)


def write_windows(root: Path) -> None:
    """Write version A: each TR's values are higher by a thousand."""
    write_stimuli(root)
    for tr in TRS:
        for roi, columns in WINDOW_COLUMNS.items():
            dump(window_path(root, tr, roi), pair(columns, 1000.0 * tr))


def source(root: Path, **settings: Any) -> BoldMoments:
    return BoldMomentsConfig(**{"path": ".", "rois": ["MT"], "counts": COUNTS, **settings}).build(root)


def read_all(root: Path, **settings: Any) -> None:
    """Read all that a study would, the rows of one split after the other's."""
    reader = source(root, **settings)
    reader.stimuli()
    reader.stimulus_files()
    for subject in reader.subjects:
        reader.response_files(subject)
        values = reader.responses(subject).values
        for split in list(values):
            values.pop(split)[0:2]


class Hostile:
    """Pickles as a call."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments
