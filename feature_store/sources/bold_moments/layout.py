"""How BOLD Moments (OpenNeuro ds005165) lies on disk and what it holds: paths, counts, regions, spaces, voxels.

Its readers and the simulation, which writes the same layout, take these from here. Responses and annotations come from
OpenNeuro; the clips come from the authors' site under separate terms, as ``stimuli/{train,test}/NNNN.mp4``.

Lahner et al. (2024), Modeling short visual events through the BOLD moments video fMRI dataset and metadata.
"""

from typing import Literal, get_args

from pydantic import Field

from core.config import Config
from feature_store.sources.base import Split

ResponseKind = Literal["rois", "MNI152", "fsLR32k", "fsaverage", "windows"]
"""Version B's betas by ROI or of a whole space, or version A's responses per TR."""
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
"""The command that fetches what OpenNeuro holds."""
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
"""Voxels of version A's ROIs by subject, as far as they are known; they differ between subjects. `WHOLE` is unknown."""


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
