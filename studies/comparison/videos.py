"""Finds the videos of two folders, what was made and what was shown, pairs them by the stem of their names, and reads
their captions from a table of one line a stimulus.

A video may be a file (mp4, gif, …), a still image, or a folder of frames. `studies.comparison.sampling` reads them.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from core.clips import IMAGE_SUFFIXES, VideoInfo, probe_video, video_files
from core.errors import ConfigError, SourceError, SourceMissing
from core.progress import track
from studies.runs import SEEN, VIDEOS
from studies.stores.clip_reading import READERS

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".gif", ".webp"}
NAMED = 3
"""How many videos a note names."""


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
    made: dict[str, VideoInfo]
    shown: dict[str, VideoInfo]
    missing: list[str]
    extra: list[str]


def folders_of(folder: Path, truth: Path | None) -> tuple[Path, Path]:
    """Return where the videos lie: in one of our own runs they are in `videos/`, what was shown in `seen/`.

    Raises
    ------
    ConfigError, SourceMissing
        There is no truth, or no such folder.
    """
    for named_folder in (folder, truth):
        if named_folder is not None and not named_folder.is_dir():
            raise SourceMissing(f"{named_folder}: no such folder; name a folder of videos")
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
    videos: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not _is_video(path):
            continue
        stem = path.name if path.is_dir() else path.stem
        if stem in videos:
            raise SourceError(f"{folder}: {videos[stem].name} and {path.name} are both '{stem}'; remove one of them")
        videos[stem] = path
    if not videos:
        raise SourceMissing(
            f"{folder}: holds no video; expected files such as NAME.mp4, or folders NAME/ of PNG frames"
        )
    return dict(sorted(videos.items()))


def _is_video(path: Path) -> bool:
    if path.is_dir():
        return bool(video_files(path))
    return path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES


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
    infos = dict(zip(both, probe_all([ours[name] for name in both], "looking at what was made"), strict=True))
    truth = dict(zip(both, probe_all([theirs[name] for name in both], "looking at what was shown"), strict=True))
    return Paired(both, infos, truth, missing, extra)


def named(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more


def plural(count: int, word: str) -> str:
    """Return a count with its noun: ``1 clip``, ``2 clips``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def probe_all(paths: Sequence[Path], what: str) -> list[VideoInfo]:
    """Return what is known of videos, in their order; raises as `core.clips.probe_video`."""
    with ThreadPoolExecutor(max_workers=READERS) as readers:
        return list(track(readers.map(probe_video, paths), what, len(paths)))


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
        """What decoded captions are compared with: those of what was seen, where every stimulus has one."""
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
    seen = by_name.get(SEEN_CAPTION)
    if seen is not None and len(without) + sum(not seen[name] for name in stimuli if name in seen.index):
        notes.append("captions of what was seen are not there for every video: decoded ones are not compared with them")
    columns = {column: by_name[column].reindex(list(stimuli), fill_value="").tolist() for column in by_name.columns}
    return Captions(columns[DECODED], columns.get(SEEN_CAPTION), notes)
