"""BOLD Moments (OpenNeuro ds005165): betas of ten subjects who watched 1,102 three-second clips, in MNI152, by ROI.

The module declares what the published dataset is (its layout, its counts, its ROIs and their voxels) and `BoldMoments`
holds the files on disk against that. Betas and annotations come from OpenNeuro; the clips come from the authors' site
under separate terms, as ``stimuli/{train,test}/NNNN.mp4``.

Lahner et al. (2024), Modeling short visual events through the BOLD moments video fMRI dataset and metadata.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.clips import Clip, ClipConfig, read_clip
from core.config import Config, nearest
from core.errors import SourceError, SourceMissing
from core.files import read_json
from feature_store.sources.base import SPLITS, STIMULUS_COLUMNS, TRIAL_COLUMNS, Recording, Rows, Split
from feature_store.sources.unpickle import load_pickle

BETAS_FOLDER = "derivatives/versionB/MNI152/prepared_allvoxel_pkl"
BETAS = BETAS_FOLDER + "/{subject}/{subject}_roi-{roi}_betas_normalized.pkl"
BETAS_KEYS: dict[Split, str] = {"train": "train_data_allvoxel", "test": "test_data_allvoxel"}
ANNOTATIONS = "derivatives/stimuli_metadata/annotations.json"
STIMULI = "stimuli"
CLIP = "{split}/{stimulus}.mp4"

PUBLISHED_SUBJECTS = tuple(range(1, 11))
ROI_VOXELS: dict[str, tuple[int, int]] = {
    "V1v": (200, 170),
    "V1d": (184, 173),
    "V2v": (169, 169),
    "V2d": (148, 170),
    "V3v": (115, 130),
    "V3d": (123, 106),
    "hV4": (67, 92),
    "EBA": (208, 116),
    "FFA": (130, 243),
    "OFA": (28, 88),
    "STS": (204, 557),
    "LOC": (851, 762),
    "PPA": (164, 124),
    "RSC": (244, 421),
    "TOS": (12, 37),
    "V3ab": (149, 233),
    "IPS0": (121, 111),
    "IPS1-2-3": (104, 112),
    "7AL": (121, 117),
    "BA2": (253, 269),
    "PFt": (122, 120),
    "PFop": (105, 98),
    "MT": (38, 57),
}
"""Voxels of every ROI, left and right, the same for all ten subjects."""

ROIS = tuple(f"{side}{roi}" for roi in ROI_VOXELS for side in "lr")
"""The ROIs as files name them: ``lV1v``, ``rV1v``, …"""


class Counts(Config):
    """How many stimuli and repeats a dataset of this layout holds; the defaults are what was published."""

    train: int = Field(1000, ge=1)
    test: int = Field(102, ge=1)
    train_repeats: int = Field(3, ge=1)
    test_repeats: int = Field(10, ge=1)

    def stimuli(self, split: Split) -> list[str]:
        """Return a split's stimulus ids: training clips count from 0001, test clips go on from there."""
        first, count = (1, self.train) if split == "train" else (self.train + 1, self.test)
        return [f"{number:04d}" for number in range(first, first + count)]

    def repeats(self, split: Split) -> int:
        """Return how often each stimulus of a split was shown."""
        return self.train_repeats if split == "train" else self.test_repeats


class BoldMomentsConfig(Config):
    """Where BOLD Moments, or a dataset in its layout, lies, and what of it is read."""

    kind: Literal["bold_moments"] = "bold_moments"
    path: str
    subjects: list[int] | None = None
    """Subject numbers; all that are there by default."""
    rois: list[str] | None = None
    """ROI names; without a side both are meant, ``lEBA`` is the left one only; all 46 by default."""
    counts: Counts = Counts()
    stimuli: str | None = None
    """The folder of the clips, where it is not ``stimuli`` inside `path`."""

    @property
    def named_subjects(self) -> list[str] | None:
        """The subjects that the config names, as ``sub-01``, or None where it takes all that are there."""
        return None if self.subjects is None else [f"sub-{number:02d}" for number in self.subjects]

    def build(self, root: Path) -> "BoldMoments":
        """Return the source; relative paths start at `root`."""
        return BoldMoments(self, root)


class BoldMoments:
    """The dataset on disk, as a `Source`."""

    def __init__(self, config: BoldMomentsConfig, root: Path) -> None:
        self.config = config
        self.path = root / Path(config.path).expanduser()
        self.clips = root / Path(config.stimuli).expanduser() if config.stimuli else self.path / STIMULI
        self.rois = _rois(config.rois)
        if not self.path.is_dir():
            raise SourceMissing(f"{self.path}: no such folder; expected BOLD Moments (ds005165); set source.path")

    @property
    def published(self) -> bool:
        """Whether this is the published dataset, so that its voxel counts are known."""
        return self.config.counts == Counts()

    @property
    def subjects(self) -> list[str]:
        """The subjects that the config names, or all that are there, as ``sub-01``."""
        folder = self.path / BETAS_FOLDER
        there = sorted(entry.name for entry in folder.glob("sub-*")) if folder.is_dir() else []
        if not there:
            raise SourceMissing(f"{folder}: no subject; expected folders sub-01, …; download the betas into it")
        wanted = self.config.named_subjects
        if wanted is None:
            return there
        for subject in wanted:
            self._require_subject(subject, there)
        return wanted

    def _require_subject(self, subject: str, there: list[str]) -> None:
        if subject not in there:
            known = f"found {', '.join(there)}"
            raise SourceMissing(
                f"{self.path / BETAS_FOLDER / subject}: no such subject; {known}; download it or mend source.subjects"
            )

    def stimuli(self) -> pd.DataFrame:
        """Return the stimuli in the order of their ids: stimulus, split and caption (a list of strings)."""
        notes = self._annotations()
        rows = [
            (stimulus, split, [str(text) for text in notes[stimulus].get("text_descriptions", [])])
            for split in SPLITS
            for stimulus in self.config.counts.stimuli(split)
        ]
        return pd.DataFrame(rows, columns=list(STIMULUS_COLUMNS))

    def _annotations(self) -> dict[str, dict[str, Any]]:
        """Read the annotations of either release; fields other than those used here are of no concern."""
        path = _present(self.path / ANNOTATIONS, "download derivatives/stimuli_metadata")
        try:
            notes: dict[str, dict[str, Any]] = read_json(path)
        except ValueError as error:
            raise SourceError(f"{path}: no JSON ({error}); fetch the file again") from error
        expected = {s: split for split in SPLITS for s in self.config.counts.stimuli(split)}
        if set(notes) != set(expected):
            missing = sorted(set(expected) - set(notes)) or sorted(set(notes) - set(expected))
            raise SourceError(
                f"{path}: {len(notes)} annotations, expected {len(expected)} as the responses have "
                f"(first that differs: {missing[0]}); mend source.counts or fetch the file again"
            )
        for stimulus, split in expected.items():
            if (found := notes[stimulus].get("set")) != split:
                raise SourceError(f"{path}: '{stimulus}' has set {found!r}, expected '{split}'; mend source.counts")
        return notes

    def responses(self, subject: str) -> Recording:
        """Return one subject's betas, raw: (trial, voxel) float32, stimulus by stimulus, then by repetition.

        Values that are NaN in the files stay NaN.
        """
        parts: dict[Split, list[NDArray[np.float32]]] = {split: [] for split in SPLITS}
        for path, roi in zip(self.response_files(subject), self.rois, strict=True):
            for split, betas in self._betas(path, roi).items():
                parts[split].append(betas)
        values: dict[Split, Rows] = {split: np.concatenate(parts[split], axis=1) for split in SPLITS}
        tables = [
            pd.DataFrame({"roi": roi, "index": np.arange(part.shape[1])})
            for roi, part in zip(self.rois, parts["train"], strict=True)
        ]
        trials: dict[Split, pd.DataFrame] = {split: self._trials(split) for split in SPLITS}
        return Recording(subject, values, trials, pd.concat(tables, ignore_index=True))

    def _trials(self, split: Split) -> pd.DataFrame:
        counts = self.config.counts
        rows = [(stimulus, r) for stimulus in counts.stimuli(split) for r in range(counts.repeats(split))]
        return pd.DataFrame(rows, columns=list(TRIAL_COLUMNS))

    def _betas(self, path: Path, roi: str) -> dict[Split, NDArray[np.float32]]:
        """Read one ROI file: per split (stimulus · repetition, voxel)."""
        content = load_pickle(path)
        if not isinstance(content, dict) or (absent := [k for k in BETAS_KEYS.values() if k not in content]):
            found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            lacking = ", ".join(BETAS_KEYS.values() if not isinstance(content, dict) else absent)
            raise SourceError(f"{path}: lacks {lacking} (found: {found}); fetch the file again")
        arrays = {split: np.asarray(content[key]) for split, key in BETAS_KEYS.items()}
        voxels = arrays["train"].shape[-1] if arrays["train"].ndim else 0
        if self.published:
            voxels = ROI_VOXELS[roi[1:]]["lr".index(roi[0])]
        for split, array in arrays.items():
            self._check_shape(path, split, array, voxels)
        return {split: array.reshape(-1, voxels).astype(np.float32) for split, array in arrays.items()}

    def _check_shape(self, path: Path, split: Split, array: NDArray[Any], voxels: int) -> None:
        counts = self.config.counts
        expected = (len(counts.stimuli(split)), counts.repeats(split), voxels)
        if array.shape != expected or array.dtype.kind != "f":
            raise SourceError(
                f"{path}: {BETAS_KEYS[split]} has shape {array.shape} of {array.dtype}, expected {expected} of floats "
                "(stimulus, repetition, voxel); mend source.counts or fetch the file again"
            )

    def response_files(self, subject: str) -> list[Path]:
        """Return a subject's ROI files, in the order of the voxels."""
        folder = self.path / BETAS_FOLDER / subject
        if not folder.is_dir():
            raise SourceMissing(f"{folder}: no such subject; download it or mend source.subjects")
        mend = "download it, or name the regions that are there in source.rois"
        return [_present(self.path / BETAS.format(subject=subject, roi=roi), mend) for roi in self.rois]

    def stimulus_files(self) -> list[Path]:
        """Return the annotations and, where the clips were fetched, every clip."""
        notes = _present(self.path / ANNOTATIONS, "download derivatives/stimuli_metadata")
        if not self.clips.is_dir():
            return [notes]
        paths = [self._clip_path(s, split) for split in SPLITS for s in self.config.counts.stimuli(split)]
        return [notes, *paths]

    def clip(self, stimulus: str, config: ClipConfig) -> Clip | None:
        """Return a stimulus's clip, sampled by time: the published clips differ in frame rate."""
        for split in SPLITS:
            if stimulus in self.config.counts.stimuli(split):
                return read_clip(self._clip_path(stimulus, split), config)
        raise SourceError(f"stimulus '{stimulus}': not one of this dataset's, which are 0001 and on; check the id")

    def _clip_path(self, stimulus: str, split: Split) -> Path:
        """Return where a clip lies, after making sure that it is there and in no other split."""
        if not self.clips.is_dir():
            raise SourceMissing(
                f"{self.clips}: no such folder; expected train/0001.mp4, …: OpenNeuro does not hold the clips; "
                "get them from the authors' site and set source.stimuli"
            )
        other: Split = "test" if split == "train" else "train"
        stray = self.clips / CLIP.format(split=other, stimulus=stimulus)
        if stray.exists():
            raise SourceError(f"{stray}: clip {stimulus} is a {split} clip, expected in {split}/ only; remove this one")
        return _present(self.clips / CLIP.format(split=split, stimulus=stimulus), "fetch the clips again")

    def target(self, name: str) -> NDArray[Any] | None:
        """Return None: the dataset holds no embeddings."""
        del name
        return None


def _rois(names: list[str] | None) -> tuple[str, ...]:
    """Return ROIs with their sides, in the order asked for and each once."""
    if names is None:
        return ROIS
    chosen: dict[str, None] = {}
    for name in names:
        sides = [name] if name in ROIS else [f"{side}{name}" for side in "lr" if name in ROI_VOXELS]
        if not sides:
            raise SourceError(f"source.rois: no ROI '{name}' in BOLD Moments{nearest(name, [*ROI_VOXELS, *ROIS])}")
        chosen.update(dict.fromkeys(sides))
    return tuple(chosen)


def _present(path: Path, mend: str) -> Path:
    """Return the path of a file that is there, or raise the one line that says why it is not."""
    if path.is_symlink() and not path.exists():
        raise SourceMissing(f"{path}: a link without its content (git-annex); run 'datalad get {path}'")
    if not path.is_file():
        raise SourceMissing(f"{path}: no such file; {mend}")
    return path
