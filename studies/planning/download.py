"""What has to be brought before a study can run, in bytes, without asking anybody: recordings, weights, clips.

The files' sizes of BOLD Moments (OpenNeuro ds005165, version 1.0.4) follow from what they hold: float64 pickles of
(stimulus, repetition, voxel) with a head whose length the dataset's own listing of sub-01 gives. `FORMULAS` reproduces
that listing to some bytes a file; other subjects differ in their voxels alone. The command
`brain2video download bold-moments … --dry-run` asks the bucket itself.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from core.checkout import project_root, relative_to_root
from feature_store.sources.bold_moments.dataset import MNI_VOXELS, STIMULI, BoldMomentsConfig, Counts
from feature_store.sources.bold_moments.request import how_to_get_clips, request
from studies.planning.facts import published_voxels
from studies.planning.models import Weights, weights_of
from studies.study import Study

CLIPS_BYTES = 203_352_515
"""The 1,102 clips, by a listing of them; they are not to be had without accepting the authors' terms."""
FORMULAS: tuple[tuple[str, int, int], ...] = (
    ("*_roi-*_betas_normalized.pkl", 4_662_349, 32_184),
    ("derivatives/versionB/MNI152/*_organized_betas_task-train_normalized.pkl", 2_342_560, 24_000),
    ("derivatives/versionB/MNI152/*_organized_betas_task-test_normalized.pkl", 2_333_309, 8_160),
    ("*_organized_betas_task-train_*normalized.pkl", 10_149, 24_000),
    ("*_organized_betas_task-test_*normalized.pkl", 1_168, 8_160),
    ("derivatives/versionB/MNI152/*_noiseceiling_task-*_n-1.pkl", 2_332_371, 16),
    ("derivatives/versionB/MNI152/*_noiseceiling_task-*.pkl", 4_662_162, 16),
    ("*_noiseceiling_*.pkl", 209, 16),
    ("*/ROIs/ROI-BMDgeneral_indices.pkl", 2_802_721, 0),
    ("*/ROIs/ROI-*_indices.pkl", 4_662_985, 32),
    ("*/mask/*.nii", 2_330_064, 0),
    ("derivatives/versionA/*_allvoxel.pkl", 32_500, 32_168),
    ("derivatives/stimuli_metadata/annotations.json", 1_638_590, 0),
)
"""Pattern of a path, bytes of a file of no voxel, and bytes a voxel; the first pattern that matches counts."""


@dataclass(frozen=True)
class ToFetch:
    """What a study needs from elsewhere.

    Attributes
    ----------
    recordings : bytes of the recordings, of all the study's subjects; None where nothing can be fetched
    each : the same for one subject, about
    recordings_there : bytes of them that are here
    weights : the hub's models that the study names
    notes : what cannot be fetched by a command, and how it is had
    """

    recordings: int | None
    each: int
    recordings_there: int
    weights: tuple[Weights, ...]
    notes: tuple[str, ...]

    @property
    def weights_size(self) -> int:
        """Bytes of all weights whose size is known."""
        return sum(one.size or 0 for one in self.weights)

    @property
    def left(self) -> int:
        """Bytes that are still to be fetched."""
        recordings = max(0, (self.recordings or 0) - self.recordings_there)
        return recordings + sum(one.size or 0 for one in self.weights if not one.there)


def to_fetch(study: Study) -> ToFetch:
    """Return what a study needs from elsewhere; nothing is asked of any server."""
    weights = tuple(weights_of(study))
    notes = [f"{one.name}: the plan knows no sizes of these weights" for one in weights if one.size is None]
    notes += [f"{one.name}: pickled weights alone; fetch with --allow-pickled" for one in weights if one.pickled]
    config = study.source
    if not isinstance(config, BoldMomentsConfig) or config.counts != Counts():
        return ToFetch(None, 0, 0, weights, tuple(notes))
    folder = project_root() / Path(config.path).expanduser()
    sizes = recording_files(config)
    subjects = len(config.named_subjects or MNI_VOXELS)
    there = sum(_there(folder, name, size) for name, size in sizes.items())
    clips = project_root() / config.stimuli if config.stimuli else folder / STIMULI
    if not clips.is_dir():
        notes.append(f"about {CLIPS_BYTES / 1e6:.0f} MB of clips: {how_to_get_clips(Path(relative_to_root(clips)))}")
    total = sum(sizes.values())
    return ToFetch(total, total // subjects, there, weights, tuple(notes))


def recording_files(config: BoldMomentsConfig) -> dict[str, int]:
    """Return the files of BOLD Moments that a study reads, or patterns of them, with their bytes."""
    subjects = config.named_subjects or list(MNI_VOXELS)
    wanted = request(subjects, config.rois or [], [config.responses]).wanted()
    names = [f"{folder}/{name}" if folder else name for folder in wanted for name in wanted[folder]]
    return {name: size_of(config, name) for name in names}


def size_of(config: BoldMomentsConfig, name: str) -> int:
    """Return the bytes of one published file; small ones at the dataset's top count as none."""
    for pattern, fixed, each in FORMULAS:
        if fnmatchcase(name, pattern):
            return fixed + each * (_voxels_in(config, name) if each else 0)
    return 0


def _voxels_in(config: BoldMomentsConfig, name: str) -> int:
    parts = PurePosixPath(name).parts
    subject = next((part for part in parts if part.startswith("sub-")), "sub-01")
    if "fsaverage" in name:
        return published_voxels(BoldMomentsConfig(path="", responses="fsaverage"), subject)["fsaverage"] // 2
    if "fsLR32k" in name:
        return published_voxels(BoldMomentsConfig(path="", responses="fsLR32k"), subject)["fsLR32k"]
    file = parts[-1]
    if "versionA" in name:
        roi = file.split("_")[0]
        return published_voxels(BoldMomentsConfig(path="", responses="windows", rois=[roi]), subject)[roi]
    for mark in ("_roi-", "ROI-"):
        if mark in file:
            roi = file.split(mark)[1].split("_")[0]
            return published_voxels(config.model_copy(update={"responses": "rois", "rois": [roi]}), subject)[roi]
    return MNI_VOXELS.get(subject, max(MNI_VOXELS.values()))


def _there(folder: Path, name: str, size: int) -> int:
    """Return how much of a file is there; one that is longer than expected counts as what was expected."""
    found = next(iter(sorted(folder.glob(name))), None) if folder.is_dir() else None
    return min(size, found.stat().st_size) if found is not None and found.is_file() else 0
