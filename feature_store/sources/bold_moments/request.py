"""The files of OpenNeuro ds005165 that a request for BOLD Moments means, and a check of the clips.

The clips are not on OpenNeuro: the authors give them to those who accept their terms, and `check_clips` compares them
with what was published.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast, get_args

import av

from core.config import nearest
from core.errors import SourceError, SourceMissing
from core.progress import track
from feature_store.sources.base import SPLITS, Split
from feature_store.sources.bold_moments import layout
from feature_store.sources.bold_moments.layout import (
    GENERAL,
    ROI_VOXELS,
    ROIS,
    WHOLE,
    WINDOW_ROIS,
    Counts,
    ResponseKind,
)

BUCKET, PREFIX, REGION = "openneuro.org", "ds005165/", "us-east-1"
KINDS: tuple[ResponseKind, ...] = get_args(ResponseKind)
ALWAYS = ("dataset_description.json", "participants.tsv", layout.ANNOTATIONS)
SPACES = ("MNI152", "fsLR32k", "fsaverage")
CEILINGS: tuple[tuple[Split, int], ...] = (("train", 1), ("train", 3), ("test", 1), ("test", 10))
"""Of which split and of how many averaged repeats noise ceilings were published."""
AVERAGED = "TRavg56789"

CLIPS_SITE = "https://boldmomentsdataset.csail.mit.edu/stimuli_metadata"
CLIP_S = (2.5, 3.5)
"""How long a clip lasts at least and at most, in seconds; published are 72 to 91 frames at 24 to 30 per second."""


@dataclass(frozen=True)
class Request:
    """The part of the dataset that a user asks for; see `request`, which checks it."""

    subjects: tuple[str, ...]
    """For example ``"sub-01"``."""
    kinds: tuple[ResponseKind, ...]
    rois: tuple[str, ...] = ()
    """To which regions the responses that go by region are narrowed; all of them where it is empty."""
    coordinates: bool = False
    """Whether the regions' voxel indices, the noise ceilings and the masks come with the regions."""
    everything: bool = False
    """Whether whole folders are wanted, with what no reader here needs."""

    def wanted(self) -> dict[str, tuple[str, ...]]:
        """Return patterns of the files that this means by their folder, the annotations included; none means all."""
        if self.everything:
            masks = [file for subject in self.subjects for file in _masks(subject)]
            folders = [folder for subject in self.subjects for folder in _folders(subject)]
            return {**_by_folder([*ALWAYS, *masks]), **dict.fromkeys(folders, ())}
        return _by_folder([*ALWAYS, *(file for subject in self.subjects for file in self._files(subject))])

    def _files(self, subject: str) -> Iterator[str]:
        """Yield a subject's files: paths below the dataset's top, or patterns of them."""
        if "rois" in self.kinds:
            yield from _regions(subject, self.rois or ROIS, coordinates=self.coordinates)
        if "MNI152" in self.kinds:
            yield from _space(subject, "MNI152")
            yield from _places(subject, (*ROIS, GENERAL))
        if "fsLR32k" in self.kinds:
            yield from _space(subject, "fsLR32k")
        if "fsaverage" in self.kinds:
            yield from _hemispheres(subject)
        if "windows" in self.kinds:
            yield from _windows(subject, self.rois)


def request(
    subjects: Sequence[str] = (),
    rois: Sequence[str] = (),
    responses: Sequence[str] = (),
    *,
    coordinates: bool = False,
    everything: bool = False,
) -> Request:
    """Return a request from the words of the command line.

    Parameters
    ----------
    subjects : ``"1"`` or ``"sub-01"``; none means all ten where `everything` is wanted
    rois : region names; without a side both are meant, ``lEBA`` is the left one only
    responses : of `KINDS`; ``rois`` where regions are named and nothing else that goes by region

    Raises
    ------
    SourceError
        Something is not one of the dataset's, or nothing is named.
    """
    named = tuple(dict.fromkeys(_subject(name) for name in subjects))
    if not named and not everything:
        raise SourceError("no subject is named: say --subject 1 (repeatable, 1 to 10), or --all for all ten")
    if not (rois or responses or everything):
        raise SourceError(
            "no responses are named: say --roi EBA (repeatable), "
            f"--responses with one of {', '.join(KINDS)} (repeatable), or --all"
        )
    for kind in responses:
        if kind not in KINDS:
            raise SourceError(f"--responses {kind}: no such responses{nearest(kind, list(KINDS))}")
    kinds = cast(tuple[ResponseKind, ...], tuple(dict.fromkeys(responses)))
    if rois and not {"rois", "windows"} & set(kinds):
        kinds = ("rois", *kinds)
    everyone = tuple(f"sub-{number:02d}" for number in layout.PUBLISHED_SUBJECTS)
    return Request(named or everyone, kinds, _sided(rois), coordinates, everything)


def _subject(name: str) -> str:
    digits = name.removeprefix("sub-")
    if not (digits.isascii() and digits.isdigit() and int(digits) in layout.PUBLISHED_SUBJECTS):
        raise SourceError(f"--subject {name}: no such subject; BOLD Moments has 1 to {layout.PUBLISHED_SUBJECTS[-1]}")
    return f"sub-{int(digits):02d}"


def _sided(names: Sequence[str]) -> tuple[str, ...]:
    """Return regions as files name them, in the order asked for and each once."""
    chosen: dict[str, None] = {}
    for name in names:
        sides = [f"{side}{name}" for side in "lr"] if name in ROI_VOXELS else [name]
        if not {*sides} <= {*ROIS, GENERAL, WHOLE}:
            raise SourceError(f"--roi {name}: no such region{nearest(name, [*ROI_VOXELS, *ROIS, GENERAL, WHOLE])}")
        chosen.update(dict.fromkeys(sides))
    return tuple(chosen)


def _by_folder(files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of files by their folder, which is listed once."""
    names: dict[str, dict[str, None]] = {}
    for file in map(PurePosixPath, files):
        names.setdefault("" if file.parent == PurePosixPath() else str(file.parent), {})[file.name] = None
    return {folder: tuple(those) for folder, those in names.items()}


def _folders(subject: str) -> Iterator[str]:
    """Yield the folders of a subject's responses of every kind."""
    yield f"{layout.BETAS_FOLDER}/{subject}"
    yield from (layout.PREPARED.format(space=space, subject=subject) for space in SPACES)
    yield str(PurePosixPath(layout.ROI_INDICES.format(subject=subject, roi="")).parent)
    yield from (
        f"{layout.WINDOWS_FOLDER}/{tr}/{subject}" for tr in (*(f"TR{number}" for number in layout.TRS), AVERAGED)
    )


def _regions(subject: str, rois: Sequence[str], *, coordinates: bool) -> Iterator[str]:
    yield from (layout.BETAS.format(subject=subject, roi=roi) for roi in rois)
    if coordinates:
        yield from _places(subject, [roi for roi in rois if roi != WHOLE])  # whose places are the mask's
        yield from (layout.CEILING.format(space="MNI152", subject=subject, split=split, n=n) for split, n in CEILINGS)


def _places(subject: str, rois: Sequence[str]) -> Iterator[str]:
    """Yield the files of the places of the MNI space's voxels, and of their regions."""
    yield from (layout.ROI_INDICES.format(subject=subject, roi=roi) for roi in rois)
    yield from _masks(subject)


def _masks(subject: str) -> Iterator[str]:
    yield from (layout.GROUP_MASK, layout.SUBJECT_MASK.format(subject=subject))


def _space(subject: str, space: str) -> Iterator[str]:
    yield from (layout.ORGANIZED.format(space=space, subject=subject, split=split) for split in SPLITS)
    yield from (layout.CEILING.format(space=space, subject=subject, split=split, n=n) for split, n in CEILINGS)


def _hemispheres(subject: str) -> Iterator[str]:
    for hemisphere in layout.HEMISPHERES:
        names = {"space": "fsaverage", "subject": subject, "hemisphere": hemisphere}
        yield from (layout.ORGANIZED_HEMISPHERE.format(**names, split=split) for split in SPLITS)
        yield from (layout.CEILING_HEMISPHERE.format(**names, split=split, n=n) for split, n in CEILINGS)


def _windows(subject: str, rois: Sequence[str]) -> Iterator[str]:
    """Yield the responses at every TR after the onset; of the whole brain, which is ten times the rest, if named."""
    names = dict.fromkeys(roi if roi in (GENERAL, WHOLE) else roi[1:] for roi in rois) or dict.fromkeys(WINDOW_ROIS)
    for name in names:
        if name not in (*WINDOW_ROIS, WHOLE):
            raise SourceError(f"--roi {name}: has no windows; those that have are {', '.join(WINDOW_ROIS)} and {WHOLE}")
        yield from (layout.WINDOWS.format(tr=tr, subject=subject, roi=name, label="*") for tr in layout.TRS)


def how_to_get_clips(folder: Path | str) -> str:
    """Return where the clips come from and where they belong, on one line."""
    return (
        f"the clips are not on OpenNeuro: open {CLIPS_SITE}, read the terms of use (stimuli_access.txt, which also "
        f"holds the password), and put the clips as {folder}/train/0001.mp4, …, {folder}/test/1102.mp4"
    )


def check_clips(folder: Path, counts: Counts | None = None) -> list[str]:
    """Compare a folder of clips with what was published, by their names and by the length that each file gives.

    Returns one line per kind of fault and split, which names the first clip of it; raises `SourceMissing` where there
    is no such folder.
    """
    if not folder.is_dir():
        raise SourceMissing(f"{folder}: no such folder; {how_to_get_clips(folder)}")
    findings = []
    for split in SPLITS:
        expected = (counts or Counts()).stimuli(split)
        paths = {stimulus: folder / layout.CLIP.format(split=split, stimulus=stimulus) for stimulus in expected}
        there = [path for path in paths.values() if path.is_file()]
        findings += _misnamed(folder / split, list(paths.values()), there)
        findings += _unsound(there, split)
    return findings


def _misnamed(folder: Path, expected: list[Path], there: list[Path]) -> list[str]:
    findings = []
    if absent := sorted({*expected} - {*there}):
        findings.append(f"{absent[0]}: no such clip ({len(there):,} of {len(expected):,} are there); copy it again")
    visible = (path for path in folder.glob("*") if not path.name.startswith("."))
    if strays := sorted({*visible} - {*expected}):
        names = f"{expected[0].name} to {expected[-1].name}"
        findings.append(f"{strays[0]}: no clip of this split ({len(strays):,} such), expected {names}; remove it")
    return findings


def _unsound(paths: list[Path], split: Split) -> list[str]:
    """Return the first clip that does not open, and the first that lasts too long or too short."""
    closed, odd = [], []
    for path in track(paths, f"checking {split} clips"):
        seconds = _length_s(path)
        if seconds is None:
            closed.append(f"{path}: not a video that can be opened")
        elif not CLIP_S[0] <= seconds <= CLIP_S[1]:
            odd.append(f"{path}: lasts {seconds:.2f} s, expected {CLIP_S[0]} to {CLIP_S[1]} s")
    return [f"{found[0]} ({len(found):,} such); copy it again" for found in (closed, odd) if found]


def _length_s(path: Path) -> float | None:
    """Return the length that a video's header gives, in seconds; None if it cannot be opened."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.duration is not None and stream.time_base is not None:
                return float(stream.duration * stream.time_base)
            return container.duration / av.time_base if container.duration is not None else None
    except (av.FFmpegError, IndexError, OSError):
        return None
