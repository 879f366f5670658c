"""Finds the videos of two folders, what was made and what was shown, and pairs them by the stem of their names.

A video may be a file (mp4, gif, …), a still image, or a folder of frames. `studies.comparison.sampling` reads them.

Reads captions that were decoded, and those of what was shown, from a table of one line a stimulus.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import pandas as pd
from PIL import Image

from core.clips import IMAGE_SUFFIXES
from core.errors import ConfigError, SourceError, SourceMissing
from core.progress import track
from studies.reconstruction.provenance import SEEN, VIDEOS
from studies.stores.clip_reading import READERS

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".gif", ".webp"}
NAMED = 3
"""How many videos a note names."""


@dataclass(frozen=True)
class Film:
    """A video on disk.

    Attributes
    ----------
    path : a file, or a folder of frames
    frames : how many it has
    height, width : in pixels
    duration_s : None where nothing says how long it lasts: one frame, or a folder of frames
    """

    path: Path
    frames: int
    height: int
    width: int
    duration_s: float | None

    @property
    def files(self) -> list[Path]:
        """The files it consists of."""
        return files_of(self.path)


@dataclass(frozen=True)
class Paired:
    """Videos by stimulus.

    Attributes
    ----------
    stimuli : those that have both, sorted
    made, shown : of these
    missing : shown, and nothing was made of them
    extra : made of what was not shown
    """

    stimuli: list[str]
    made: dict[str, Film]
    shown: dict[str, Film]
    missing: list[str]
    extra: list[str]


def folders_of(folder: Path, truth: Path | None) -> tuple[Path, Path]:
    """Return where the videos lie: in one of our own runs they are in `videos/`, what was shown in `seen/`.

    Raises
    ------
    ConfigError, SourceMissing
        There is no truth, or no such folder.
    """
    for one in (folder, truth):
        if one is not None and not one.is_dir():
            raise SourceMissing(f"{one}: no such folder; name a folder of videos")
    made = folder / VIDEOS if (folder / VIDEOS).is_dir() else folder
    shown = truth or folder
    if truth is None and not (folder / SEEN).is_dir():
        raise ConfigError(f"{folder}: holds no '{SEEN}/'; name the folder of what was shown with --truth")
    return made, shown / SEEN if (shown / SEEN).is_dir() else shown


def videos_in(folder: Path) -> dict[str, Path]:
    """Return the videos of a folder by the stem of their name, sorted.

    Raises
    ------
    SourceMissing
        There is no such folder, or no video in it.
    SourceError
        Two have one stem.
    """
    if not folder.is_dir():
        raise SourceMissing(f"{folder}: no such folder; name a folder of videos")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not _is_video(path):
            continue
        stem = path.name if path.is_dir() else path.stem
        if stem in found:
            raise SourceError(f"{folder}: {found[stem].name} and {path.name} are both '{stem}'; remove one of them")
        found[stem] = path
    if not found:
        raise SourceMissing(
            f"{folder}: holds no video; expected files such as NAME.mp4, or folders NAME/ of PNG frames"
        )
    return dict(sorted(found.items()))


def _is_video(path: Path) -> bool:
    if path.is_dir():
        return bool(frames_in(path))
    return path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES


def files_of(path: Path) -> list[Path]:
    """Return the files that a video consists of."""
    return frames_in(path) if path.is_dir() else [path]


def frames_in(folder: Path) -> list[Path]:
    """Return the still images of a folder, by the numbers in their names: frame2 comes before frame10."""
    stills = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    return sorted(stills, key=lambda path: (_last_number(path.stem), path.name))


def _last_number(stem: str) -> int:
    digits = "".join(sign if sign.isdecimal() else " " for sign in stem).split()
    return int(digits[-1]) if digits else -1


def pair(made: Path, shown: Path, *, allow_missing: bool = False) -> Paired:
    """Pair what was made with what was shown.

    Raises
    ------
    SourceError, SourceMissing
        Nothing was made of what was shown, or of a part of it unless that is allowed; a file is no video.
    """
    ours, theirs = videos_in(made), videos_in(shown)
    both = [name for name in theirs if name in ours]
    missing, extra = [name for name in theirs if name not in ours], [name for name in ours if name not in theirs]
    if not both:
        raise SourceError(
            f"{made} and {shown} have no video in common ({named(ours)} and {named(theirs)}); give both files of a "
            "stimulus one name"
        )
    if missing and not allow_missing:
        raise SourceMissing(
            f"{made}: {len(missing)} of {len(theirs)} videos are missing ({named(missing)}); add them, or score "
            "without them (--allow-missing)"
        )
    looked = dict(zip(both, probe_all([ours[name] for name in both], "looking at what was made"), strict=True))
    truth = dict(zip(both, probe_all([theirs[name] for name in both], "looking at what was shown"), strict=True))
    return Paired(both, looked, truth, missing, extra)


def named(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more


def probe_all(paths: Sequence[Path], what: str) -> list[Film]:
    """Look at videos in their order; see `probe`."""
    with ThreadPoolExecutor(max_workers=READERS) as readers:
        return list(track(readers.map(probe, paths), what, len(paths)))


def probe(path: Path) -> Film:
    """Return how many frames a video has, how large they are and how long it lasts; nothing is decoded but images.

    Raises
    ------
    SourceError
        It is no video.
    """
    if path.is_dir():
        frames = frames_in(path)
        first = probe(frames[0])
        return Film(path, len(frames), first.height, first.width, None)
    try:
        return _probe_image(path) if path.suffix.lower() in IMAGE_SUFFIXES else _probe_video(path)
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: not a video that can be decoded ({error}); replace the file") from error


def _probe_image(path: Path) -> Film:
    with Image.open(path) as image:
        return Film(path, 1, image.height, image.width, None)


def _probe_video(path: Path) -> Film:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = float(stream.time_base or 1)
        packets = [packet for packet in container.demux(stream) if packet.pts is not None and packet.size]
        shown = sorted((packet.pts * base, (packet.duration or 0) * base) for packet in packets)
        if not shown:
            raise SourceError(f"{path}: holds no video frame; replace the file")
        (first, _), (last, length) = shown[0], shown[-1]
        still = len(shown) == 1
        duration = None if still else last - first + (length or (last - first) / (len(shown) - 1))
        return Film(path, len(shown), stream.height, stream.width, duration)


STIMULUS, DECODED, SEEN_CAPTION = "stimulus", "decoded", "seen"


@dataclass(frozen=True)
class Captions:
    """Captions, one a stimulus, empty where there is none.

    Attributes
    ----------
    decoded : (n,)
    seen : (n,), or None where the table has no such column
    notes : what a reader has to know
    """

    decoded: list[str]
    seen: list[str] | None
    notes: list[str]

    @property
    def references(self) -> list[str] | None:
        """What decoded captions are held against: those of what was seen, where every stimulus has one."""
        return self.seen if self.seen and all(self.seen) else None


def read_captions(file: Path | None, stimuli: Sequence[str]) -> Captions | None:
    """Read the captions of some stimuli from a CSV with the columns `stimulus`, `decoded` and, optionally, `seen`.

    Raises
    ------
    SourceMissing, SourceError
        The file is absent, no such table, names a stimulus twice or none of these stimuli.
    """
    if file is None:
        return None
    if not file.is_file():
        raise SourceMissing(
            f"{file}: no such table of captions; name a CSV of {STIMULUS}, {DECODED} and {SEEN_CAPTION}"
        )
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise SourceError(f"{file}: not a CSV ({' '.join(str(error).split())}); replace the file") from error
    absent = [column for column in (STIMULUS, DECODED) if column not in table]
    if absent:
        raise SourceError(f"{file}: has no column '{absent[0]}', found {', '.join(table.columns)}; name it so")
    twice = table[STIMULUS][table[STIMULUS].duplicated()]
    if len(twice):
        raise SourceError(f"{file}: has '{twice.iloc[0]}' twice; keep one line of each stimulus")
    by_name = table.set_index(STIMULUS)
    without = [name for name in stimuli if name not in by_name.index]
    if len(without) == len(stimuli):
        raise SourceError(
            f"{file}: has none of the videos ({named(by_name.index)}, not {named(stimuli)}); name them alike"
        )
    notes = [f"captions: {len(without)} of {len(stimuli)} videos have none ({named(without)})"] if without else []
    told = by_name.get(SEEN_CAPTION)
    if told is not None and len(without) + sum(not told[name] for name in stimuli if name in told.index):
        notes.append("captions of what was seen are not there for every video: decoded ones are not held against them")
    columns = {column: by_name[column].reindex(list(stimuli), fill_value="").tolist() for column in by_name.columns}
    return Captions(columns[DECODED], columns.get(SEEN_CAPTION), notes)
