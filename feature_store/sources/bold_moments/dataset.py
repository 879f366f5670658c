"""BOLD Moments (OpenNeuro ds005165): responses of ten subjects who watched 1,102 three-second clips.

The module declares what the published dataset is: its layout, its counts, its regions, its spaces and their voxels.
`BoldMoments` holds the files on disk against that; each kind of responses has its reader beside this module
(`bold_moments_rois`, `bold_moments_spaces`, `bold_moments_windows`). Responses and annotations come from OpenNeuro; the
clips come from the authors' site under separate terms, as ``stimuli/{train,test}/NNNN.mp4``.

Lahner et al. (2024), Modeling short visual events through the BOLD moments video fMRI dataset and metadata.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from core.clips import Clip, ClipConfig, read_clip
from core.config import Config, nearest
from core.errors import SourceError, SourceMissing
from core.files import read_json
from feature_store.sources.base import (
    SPLITS,
    STIMULUS_COLUMNS,
    Declared,
    Recording,
    RecordingShape,
    Split,
    declared_trials,
)
from feature_store.sources.tables import present

if TYPE_CHECKING:  # the readers import the layout that this module declares
    from feature_store.sources.bold_moments.files import Reader

Responses = Literal["rois", "MNI152", "fsLR32k", "fsaverage", "windows"]
Hemisphere = Literal["left", "right"]
HEMISPHERES: tuple[Hemisphere, ...] = get_args(Hemisphere)

BETAS_FOLDER = "derivatives/versionB/MNI152/prepared_allvoxel_pkl"
BETAS = BETAS_FOLDER + "/{subject}/{subject}_roi-{roi}_betas_normalized.pkl"
BETAS_KEYS: dict[Split, str] = {"train": "train_data_allvoxel", "test": "test_data_allvoxel"}
REST = BETAS_FOLDER + "/{subject}/{subject}_roi-{roi}_rest_normalized.pkl"
REST_KEY = "rest_data_allvoxel"
"""Rows of rest, (row, voxel), as simulations write them; what is published are raw runs of rest, but no betas."""

GLM_FOLDER = "derivatives/versionB/{space}/GLM"
PREPARED = GLM_FOLDER + "/{subject}/prepared_betas"
ORGANIZED = PREPARED + "/{subject}_organized_betas_task-{split}_normalized.pkl"
ORGANIZED_HEMISPHERE = PREPARED + "/{subject}_organized_betas_task-{split}_hemi-{hemisphere}_normalized.pkl"
CEILING = PREPARED + "/{subject}_noiseceiling_task-{split}_n-{n}.pkl"
CEILING_HEMISPHERE = PREPARED + "/{subject}_noiseceiling_space-{space}_task-{split}_hemi-{hemisphere}_n-{n}.pkl"
STIMULUS_NAME = "vid{stimulus}"
ROI_INDICES = "derivatives/versionB/MNI152/GLM/{subject}/ROIs/ROI-{roi}_indices.pkl"
GROUP_MASK = "derivatives/versionB/MNI152/GLM/mask/groupMask_space-MNI152.nii"
SUBJECT_MASK = "derivatives/versionB/MNI152/GLM/mask/{subject}_mask-nonans_space-MNI152.nii"

WINDOWS_FOLDER = "derivatives/versionA/MNI152/prepared_data/prepared_allvoxel_pkl"
WINDOWS = WINDOWS_FOLDER + "/TR{tr}/{subject}/{roi}_{label}_allvoxel.pkl"
TR_S = 1.75
TRS = tuple(range(1, 10))

ANNOTATIONS = "derivatives/stimuli_metadata/annotations.json"
DOWNLOAD = "brain2video download bold-moments"
"""The command that fetches whatever OpenNeuro holds."""
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
GENERAL = "BMDgeneral"
"""The voxels that respond to clips in general, over both hemispheres."""
GENERAL_VOXELS = 14_672
WHOLE = "WB"
"""All voxels of the MNI space, in the form of a ROI."""

MNI_VOXELS = dict(
    zip(
        [f"sub-{number:02d}" for number in PUBLISHED_SUBJECTS],
        [108_219, 108_603, 108_366, 108_283, 108_201, 108_449, 108_126, 108_407, 108_250, 107_987],
        strict=True,
    )
)
FSLR_CORTEX = (29_696, 29_716)
"""Left and right cortex, by which fsLR32k begins; the rest of its grayordinates is subcortical."""
FSLR_VOXELS = 91_282
FSAVERAGE_VERTICES = 163_842
"""Of each hemisphere."""

WINDOW_ROIS = tuple(roi for roi in ROI_VOXELS if roi != "MT")
"""The ROIs of version A, over both hemispheres."""
WINDOW_VOXELS: dict[str, dict[str, int]] = {
    "sub-01": {
        **{"V1v": 320, "V1d": 291, "V2v": 293, "V2d": 284, "V3v": 234, "V3d": 231, "hV4": 149, "V3ab": 393},
        **{"EBA": 536, "FFA": 116, "OFA": 125, "STS": 748, "LOC": 868, "PPA": 955, "RSC": 959, "TOS": 90},
        **{"IPS0": 230, "IPS1-2-3": 200, "7AL": 164, "BA2": 487, "PFt": 142, "PFop": 222},
    }
}
"""Voxels of version A's ROIs, which differ between subjects, where they are known; those of its `WHOLE` are not."""

LONGEST_CAPTIONS: dict[Split, int] = {"train": 546, "test": 414}
"""Bytes of the longest list of five captions, as JSON, in the annotations' early release."""


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
    subjects: list[int] | None = Field(None, min_length=1)
    """Subject numbers; all that are there by default."""
    responses: Responses = "rois"
    """Version B's betas by ROI, or of a whole space; ``windows`` are version A's responses per TR."""
    rois: list[str] | None = Field(None, min_length=1)
    """ROI names; without a side both are meant, ``lEBA`` is the left one only; all that have sides by default.
    ``BMDgeneral`` and ``WB`` have none, nor has any in ``windows``; in ``MNI152`` they choose voxels (default: all)."""
    trs: list[int] = Field(default_factory=lambda: list(TRS))
    """Which TRs after a clip's onset make up its window, where responses are ``windows``."""
    counts: Counts = Counts()
    stimuli: str | None = None
    """The folder of the clips, where it is not ``stimuli`` inside `path`."""

    @model_validator(mode="after")
    def _trs_are_there(self) -> Self:
        if not self.trs or self.trs != sorted(set(self.trs)) or not set(self.trs) <= set(TRS):
            raise ValueError(f"trs must be ascending numbers within 1 to {TRS[-1]}, found {self.trs}")
        return self

    @property
    def named_subjects(self) -> list[str] | None:
        """The subjects that the config names, as ``sub-01``, or None where it takes all that are there."""
        return None if self.subjects is None else [f"sub-{number:02d}" for number in self.subjects]

    def build(self, root: Path) -> "BoldMoments":
        """Return the source; relative paths start at `root`."""
        return BoldMoments(self, root)

    def declared(self, voxels: int | None = None, rest: int = 0) -> Declared | None:
        """Return what the dataset holds, whether or not it is here.

        Parameters
        ----------
        voxels, rest : int
            Of every subject, and its rows of rest, where this is no published dataset but one in its layout; without
            `voxels` nothing is known of such a one.
        """
        if self.counts != Counts() and voxels is None:
            return None
        names = self.named_subjects or list(MNI_VOXELS)
        trials = {s: declared_trials(self.counts.stimuli(s), self.counts.repeats(s)) for s in SPLITS}
        times = len(self.trs) if self.responses == "windows" else None
        shapes = [
            RecordingShape.declared(name, trials, voxels or sum(self.published_voxels(name).values()), times, rest)
            for name in names
        ]
        captions = {split: ["x" * (LONGEST_CAPTIONS[split] - 4)] for split in SPLITS}
        rows = [(name, split, captions[split]) for split in SPLITS for name in self.counts.stimuli(split)]
        return Declared(tuple(shapes), pd.DataFrame(rows, columns=list(STIMULUS_COLUMNS)))

    def published_voxels(self, subject: str) -> dict[str, int]:
        """Return the voxels that are read of a published subject, by region or for the whole space."""
        if self.responses in ("fsLR32k", "fsaverage"):
            return {self.responses: FSLR_VOXELS if self.responses == "fsLR32k" else 2 * FSAVERAGE_VERTICES}
        whole = MNI_VOXELS.get(subject, max(MNI_VOXELS.values()))
        rois = _rois(self.rois, self.responses) or (WHOLE,)
        if self.responses == "windows":
            known = WINDOW_VOXELS.get(subject, WINDOW_VOXELS["sub-01"])
            return {roi: known.get(roi, whole) for roi in rois}
        sided = {f"{side}{roi}": n for roi, both in ROI_VOXELS.items() for side, n in zip("lr", both, strict=True)}
        sized = {**sided, GENERAL: GENERAL_VOXELS, WHOLE: whole}
        return {roi: sized[roi] for roi in rois}


class BoldMoments:
    """The dataset on disk, as a `Source`."""

    def __init__(self, config: BoldMomentsConfig, root: Path) -> None:
        self.config = config
        self.path = root / Path(config.path).expanduser()
        self.clips = root / Path(config.stimuli).expanduser() if config.stimuli else self.path / STIMULI
        self.rois = _rois(config.rois, config.responses)
        if not self.path.is_dir():
            raise SourceMissing(f"{self.path}: no such folder; expected BOLD Moments (ds005165); set source.path")
        self._reader = _reader(config, self.path, self.rois)

    @property
    def published(self) -> bool:
        """Whether this is the published dataset, so that its voxel counts are known."""
        return self.config.counts == Counts()

    @property
    def subjects(self) -> list[str]:
        """The subjects that the config names, or all that are there, as ``sub-01``."""
        folder, there = self._reader.folder, self._reader.subjects()
        if not there:
            raise SourceMissing(
                f"{folder}: no subject; expected folders sub-01, …; download the responses into it ('{DOWNLOAD}')"
            )
        wanted = there if self.config.named_subjects is None else self.config.named_subjects
        for subject in wanted:
            if subject not in there:
                raise SourceMissing(
                    f"{folder / subject}: no such subject; found {', '.join(there)}; "
                    "download it or mend source.subjects"
                )
        return wanted

    def responses(self, subject: str) -> Recording:
        """Return one subject's responses, raw float32, stimulus by stimulus, then by repetition.

        Betas are (trial, voxel), windows (trial, time, voxel). Values that are NaN in the files stay NaN; a region
        without any finite value is refused. Whole spaces and windows are read when rows are first asked for.

        Raises
        ------
        SourceMissing, SourceError
            A file is absent, or is not what the dataset declares.
        """
        return self._reader.responses(subject)

    def response_files(self, subject: str) -> list[Path]:
        """Return every file that `responses` reads for a subject: responses first, in the order of the voxels."""
        return self._reader.files(subject)

    def stimuli(self) -> pd.DataFrame:
        """Return the stimuli in the order of their ids: stimulus, split and caption (a list of strings)."""
        notes = self._annotations()
        rows = [
            (stimulus, split, [str(text) for text in notes[stimulus].get("text_descriptions") or []])
            for split in SPLITS
            for stimulus in self.config.counts.stimuli(split)
        ]
        return pd.DataFrame(rows, columns=list(STIMULUS_COLUMNS))

    def _annotations(self) -> dict[str, dict[str, Any]]:
        """Read the annotations of either release; fields other than those used here are of no concern."""
        path = present(self.path / ANNOTATIONS, "download derivatives/stimuli_metadata", or_run=DOWNLOAD)
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
            if not isinstance(note := notes[stimulus], dict):
                raise SourceError(
                    f"{path}: '{stimulus}' is {type(note).__name__}, expected fields; fetch the file again"
                )
            if (found := note.get("set")) != split:
                raise SourceError(f"{path}: '{stimulus}' has set {found!r}, expected '{split}'; mend source.counts")
        return notes

    def stimulus_files(self) -> list[Path]:
        """Return the annotations and, where the clips were fetched, every clip."""
        notes = present(self.path / ANNOTATIONS, "download derivatives/stimuli_metadata", or_run=DOWNLOAD)
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
        path = self.clips / CLIP.format(split=split, stimulus=stimulus)
        return present(path, "fetch the clips again")

    def target(self, name: str) -> NDArray[Any] | None:
        """Return None: the dataset holds no embeddings."""
        del name
        return None


def _rois(names: list[str] | None, responses: Responses) -> tuple[str, ...]:
    """Return ROIs as files name them, in the order asked for and each once; none where a whole space is meant."""
    if names is None:
        return {"rois": ROIS, "windows": WINDOW_ROIS}.get(responses, ())
    if responses in ("fsLR32k", "fsaverage"):
        raise SourceError(
            f"source.rois: names {', '.join(names)} in {responses}, where no regions are published; "
            "leave it out, or set source.responses to rois or MNI152"
        )
    sided = responses != "windows"
    whole = [GENERAL] * sided + [WHOLE] * (responses != "MNI152")
    alone = [*(ROIS if sided else WINDOW_ROIS), *whole]
    chosen: dict[str, None] = {}
    for name in names:
        found = [name] if name in alone else [f"{side}{name}" for side in "lr" if sided and name in ROI_VOXELS]
        if not found:
            known = list(dict.fromkeys([*(ROI_VOXELS if sided else ()), *alone]))
            where = "BOLD Moments" if sided else "version A of BOLD Moments, whose regions have no side"
            raise SourceError(f"source.rois: no ROI '{name}' in {where}{nearest(name, known)}")
        chosen.update(dict.fromkeys(found))
    return tuple(chosen)


def _reader(config: BoldMomentsConfig, path: Path, rois: tuple[str, ...]) -> "Reader":
    """Return the reader of the responses that the config asks for."""
    from feature_store.sources.bold_moments.rois import RoiBetas
    from feature_store.sources.bold_moments.spaces import SurfaceBetas, VolumeBetas
    from feature_store.sources.bold_moments.windows import Windows

    readers: dict[Responses, type[Reader]] = {
        "rois": RoiBetas,
        "MNI152": VolumeBetas,
        "fsLR32k": SurfaceBetas,
        "fsaverage": SurfaceBetas,
        "windows": Windows,
    }
    return readers[config.responses](config, path, rois)
