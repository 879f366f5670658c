"""BOLD Moments (OpenNeuro ds005165): responses of ten subjects who watched 1,102 three-second clips.

`BoldMoments` checks the files on disk against `layout`, which declares what was published; `regions` and `spaces` read
each kind of responses.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
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
    Source,
    Split,
    declared_trials,
    present,
)
from feature_store.sources.bold_moments import layout
from feature_store.sources.bold_moments.events import event_files, with_times
from feature_store.sources.bold_moments.layout import (
    GENERAL,
    ROI_VOXELS,
    ROIS,
    WHOLE,
    WINDOW_ROIS,
    Counts,
    ResponseKind,
)
from feature_store.sources.bold_moments.reader import Reader
from feature_store.sources.bold_moments.responses import RoiBetas, SurfaceBetas, VolumeBetas, Windows


class BoldMomentsConfig(Config):
    """Where BOLD Moments, or a dataset in its layout, lies, and what of it is read."""

    kind: Literal["bold_moments"] = "bold_moments"
    path: str
    subjects: list[int] | None = Field(None, min_length=1)
    """Subject numbers; all that are there by default."""
    responses: ResponseKind = "rois"
    """Version B's betas by ROI, or of a whole space; ``windows`` are version A's responses per TR."""
    rois: list[str] | None = Field(None, min_length=1)
    """ROI names; without a side both are meant, ``lEBA`` is the left one only; all that have sides by default.
    ``BMDgeneral`` and ``WB`` have none, nor has any in ``windows``; in ``MNI152`` they choose voxels (default: all)."""
    trs: list[int] = Field(default_factory=lambda: list(layout.TRS))
    """Which TRs after a clip's onset make up its window, where responses are ``windows``."""
    counts: Counts = Counts()
    stimuli: str | None = None
    """The folder of the clips, where it is not ``stimuli`` inside `path`."""

    @model_validator(mode="after")
    def _trs_are_there(self) -> Self:
        if not self.trs or self.trs != sorted(set(self.trs)) or not set(self.trs) <= set(layout.TRS):
            raise ValueError(f"trs must be ascending numbers within 1 to {layout.TRS[-1]}, found {self.trs}")
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
        names = self.named_subjects or list(layout.MNI_VOXELS)
        trials = {s: declared_trials(self.counts.stimuli(s), self.counts.repeats(s)) for s in SPLITS}
        times = len(self.trs) if self.responses == "windows" else None
        shapes = [
            RecordingShape.declared(name, trials, voxels or sum(self.published_voxels(name).values()), times, rest)
            for name in names
        ]
        captions = {split: ["x" * (layout.LONGEST_CAPTIONS[split] - 4)] for split in SPLITS}
        rows = [(name, split, captions[split]) for split in SPLITS for name in self.counts.stimuli(split)]
        return Declared(tuple(shapes), pd.DataFrame(rows, columns=list(STIMULUS_COLUMNS)))

    def published_voxels(self, subject: str) -> dict[str, int]:
        """Return the voxels that are read of a published subject, by region or for the whole space."""
        if self.responses in ("fsLR32k", "fsaverage"):
            return {
                self.responses: layout.FSLR_VOXELS if self.responses == "fsLR32k" else 2 * layout.FSAVERAGE_VERTICES
            }
        whole = layout.MNI_VOXELS.get(subject, max(layout.MNI_VOXELS.values()))
        rois = _rois(self.rois, self.responses) or (WHOLE,)
        if self.responses == "windows":
            known = layout.WINDOW_VOXELS.get(subject, layout.WINDOW_VOXELS["sub-01"])
            return {roi: known.get(roi, whole) for roi in rois}
        sided = {f"{side}{roi}": n for roi, both in ROI_VOXELS.items() for side, n in zip("lr", both, strict=True)}
        sized = {**sided, GENERAL: layout.GENERAL_VOXELS, WHOLE: whole}
        return {roi: sized[roi] for roi in rois}


class BoldMoments(Source):
    """The dataset on disk, as a `Source`."""

    def __init__(self, config: BoldMomentsConfig, root: Path) -> None:
        self.config = config
        self.path = root / Path(config.path).expanduser()
        self.clips = root / Path(config.stimuli).expanduser() if config.stimuli else self.path / layout.STIMULI
        self.rois = _rois(config.rois, config.responses)
        if not self.path.is_dir():
            raise SourceMissing(f"{self.path}: no such folder; expected BOLD Moments (ds005165); set source.path")
        self._reader = _reader(config, self.path, self.rois)

    @property
    def subjects(self) -> list[str]:
        """The subjects that the config names, or all that are there, as ``sub-01``."""
        folder, there = self._reader.folder, self._reader.subjects()
        if not there:
            raise SourceMissing(
                f"{folder}: no subject; expected folders sub-01, …; download the responses into it "
                f"('{layout.DOWNLOAD}')"
            )
        wanted = there if self.config.named_subjects is None else self.config.named_subjects
        for subject in wanted:
            if subject not in there:
                raise SourceMissing(
                    f"{folder / subject}: no such subject; found {', '.join(there)}; download it or fix source.subjects"
                )
        return wanted

    def responses(self, subject: str) -> Recording:
        """Return one subject's responses, raw float32, stimulus by stimulus, then by repetition.

        Betas are (trial, voxel), windows (trial, time, voxel). Values that are NaN in the files stay NaN; a region
        without any finite value is refused. Trials have run and onset where the raw events are here. Whole
        spaces and windows are read when rows are first asked for.

        Raises
        ------
        SourceMissing, SourceError
            A file is absent, or is not what the dataset declares.
        """
        recording = self._reader.responses(subject)
        return replace(recording, trials=with_times(recording.trials, self.path, subject))

    def recordings(self, subject: str) -> list[Path]:
        """Return the first file of a subject's responses, which is that of its first region."""
        return self._reader.files(subject)[:1]

    def response_files(self, subject: str) -> list[Path]:
        """Return every file that `responses` reads for a subject: responses first, in the order of the voxels."""
        return [*self._reader.files(subject), *event_files(self.path, subject)]

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
        """Read the annotations of either release; fields that are not used here are not checked."""
        path = present(self.path / layout.ANNOTATIONS, "download derivatives/stimuli_metadata", or_run=layout.DOWNLOAD)
        try:
            notes: dict[str, dict[str, Any]] = read_json(path)
        except ValueError as error:
            raise SourceError(f"{path}: no JSON ({error}); fetch the file again") from error
        expected = {s: split for split in SPLITS for s in self.config.counts.stimuli(split)}
        if set(notes) != set(expected):
            missing = sorted(set(expected) - set(notes)) or sorted(set(notes) - set(expected))
            raise SourceError(
                f"{path}: {len(notes)} annotations, expected {len(expected)} as the responses have "
                f"(first that differs: {missing[0]}); fix source.counts or fetch the file again"
            )
        for stimulus, split in expected.items():
            if not isinstance(note := notes[stimulus], dict):
                raise SourceError(
                    f"{path}: '{stimulus}' is {type(note).__name__}, expected fields; fetch the file again"
                )
            if (found := note.get("set")) != split:
                raise SourceError(f"{path}: '{stimulus}' has set {found!r}, expected '{split}'; fix source.counts")
        return notes

    def stimulus_files(self) -> list[Path]:
        """Return the annotations and, where the clips were fetched, every clip."""
        notes = present(self.path / layout.ANNOTATIONS, "download derivatives/stimuli_metadata", or_run=layout.DOWNLOAD)
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
        stray = self.clips / layout.CLIP.format(split=other, stimulus=stimulus)
        if stray.exists():
            raise SourceError(f"{stray}: clip {stimulus} is a {split} clip, expected in {split}/ only; remove this one")
        path = self.clips / layout.CLIP.format(split=split, stimulus=stimulus)
        return present(path, "fetch the clips again")


def _rois(names: list[str] | None, responses: ResponseKind) -> tuple[str, ...]:
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


def _reader(config: BoldMomentsConfig, path: Path, rois: tuple[str, ...]) -> Reader:
    """Return the reader of the responses that the config asks for."""
    if config.responses == "rois":
        return RoiBetas(path, config.counts, rois)
    if config.responses == "windows":
        return Windows(path, config.counts, rois, config.trs)
    reader = VolumeBetas if config.responses == "MNI152" else SurfaceBetas
    return reader(path, config.counts, rois, config.responses)
