"""Pairs the videos of two folders by the stem of their names, reads their captions, and brings them to one sampling.

A video may be a file (mp4, gif, …), a still image, or a folder of frames. Notes tell in words what sampling meant.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray
from pydantic import PositiveInt

from core.clips import Clip, ClipConfig, VideoInfo, probe_video, read_clip, read_metadata, video_files
from core.config import Config
from core.errors import ConfigError, SourceError, SourceMissing
from core.media import BACKGROUND
from core.pictures import IMAGE_SUFFIXES
from core.progress import track
from evaluation.report.wording import named
from studies.runs import SEEN, VIDEOS
from studies.stores.clip_reading import READERS

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".gif", ".webp"}


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

    Raises `ConfigError` or `SourceMissing` where there is no truth, or no such folder.
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

    Raises `SourceError` or `SourceMissing` where nothing was made of what was shown, or of a part of it unless that is
    allowed; a file is no video.
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
        """What decoded captions are compared with: those of what was seen, empty where there is none."""
        return self.seen if self.seen and any(self.seen) else None


def read_captions(file: Path | None, stimuli: Sequence[str]) -> Captions | None:
    """Read the captions of some stimuli from a CSV with the columns `stimulus`, `decoded` and, optionally, `seen`.

    Raises `SourceMissing` or `SourceError` where the file is absent, no such table, names a stimulus twice or none of
    these stimuli.
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
    unseen = [name for name in stimuli if seen is not None and not seen.get(name)]
    if unseen:
        notes.append(
            f"captions of what was seen: {len(unseen)} of {len(stimuli)} videos have none ({named(unseen)}), and no "
            "score of their words; embeddings of captions are compared where all have one"
        )
    columns = {column: by_name[column].reindex(list(stimuli), fill_value="").tolist() for column in by_name.columns}
    return Captions(columns[DECODED], columns.get(SEEN_CAPTION), notes)


FPS = 8.0
"""Frames per second that a clip is shown with where its duration is unknown."""
TOLERANCE = 0.1
"""The part by which a video may last longer or shorter than the truth without a note."""
BLACK = 8
"""The brightest value, of 255, in a clip that counts as all black."""
GROUPS = 3
"""Rates and sizes that are named one by one."""
COPIES = 16
"""Bytes that scoring takes for a byte of the truth's clips: 5 were measured, clips less a training mean take 8 more."""
Clips = NDArray[np.uint8]


class Sampling(Config):
    """What every clip looks like once it is read."""

    frames: PositiveInt
    height: PositiveInt
    width: PositiveInt

    def of(self, window_s: float) -> ClipConfig:
        """Return how a video is read whose first `window_s` seconds are looked at."""
        return ClipConfig(**self.model_dump(), window_s=window_s)

    def __str__(self) -> str:
        return f"{plural(self.frames, 'frame')} of {self.height} × {self.width} pixels"


def sampling_of(
    paired: Paired, *, frames: int | None = None, height: int | None = None, width: int | None = None
) -> tuple[Sampling, list[str]]:
    """Return how the clips are read, which is as the truth is unless something else is asked for, and why.

    Videos that we wrote ourselves record their size before they were enlarged; they are read at that. Raises
    `ConfigError` where the clips would take more than the free memory.
    """
    infos = list(paired.shown.values())
    truth, notes = _recorded_sampling(infos[0]), []
    if truth is None:
        count = Counter(info.frames for info in infos).most_common(1)[0][0]
        size = Counter(_size(info) for info in infos).most_common(1)[0][0]
        truth = Sampling(frames=count, height=size[0], width=size[1])
    elif _size(truth) != _size(infos[0]):
        notes.append(f"the truth's files were enlarged when they were written: scored as {truth}, as they were made")
    sampling = Sampling(frames=frames or truth.frames, height=height or truth.height, width=width or truth.width)
    _require_memory(sampling, len(infos))
    return sampling, notes


def _recorded_sampling(info: VideoInfo) -> Sampling | None:
    """Return the sampling that a video of ours records in its metadata."""
    try:
        clips = json.loads(read_metadata(info.path)["comment"])["config"]["clips"]
        return Sampling(frames=clips["frames"], height=clips["height"], width=clips["width"])
    except (SourceError, OSError, ValueError, KeyError, TypeError):
        return None


def _require_memory(sampling: Sampling, n: int) -> None:
    needed = COPIES * n * sampling.frames * sampling.height * sampling.width * 3
    free = psutil.virtual_memory().available
    if needed > free:
        share = math.sqrt(free / needed / 2)
        side = [max(1, int(pixels * share)) for pixels in (sampling.height, sampling.width)]
        raise ConfigError(
            f"{n} clips of {sampling} take about {needed / 1e9:,.1f} GB to score and {free / 1e9:,.1f} GB are free; "
            f"score them smaller (--height {side[0]} --width {side[1]}) or with fewer --frames"
        )


def fps_of(paired: Paired, sampling: Sampling) -> float:
    """Return the rate at which the clips are shown."""
    lengths = [info.duration_s for info in paired.shown.values() if info.duration_s]
    return sampling.frames / median(lengths) if lengths else FPS


def read_made(paired: Paired, sampling: Sampling, *, whole: bool = False) -> Clips:
    """Read what was made, (stimulus, frame, height, width, 3), at the instants at which the truth is read.

    Parameters
    ----------
    whole : stretch every video over the truth's duration, whatever its own. A video of unknown duration always is.
    """
    windows = [_window(paired.made[name], None if whole else paired.shown[name]) for name in paired.stimuli]
    return _read([paired.made[name] for name in paired.stimuli], windows, sampling, "reading what was made")


def read_shown(paired: Paired, sampling: Sampling) -> Clips:
    """Read what was shown, (stimulus, frame, height, width, 3), each over its whole duration."""
    infos = [paired.shown[name] for name in paired.stimuli]
    return _read(infos, [_window(info) for info in infos], sampling, "reading what was shown")


def read_whole(infos: Sequence[VideoInfo], sampling: Sampling) -> Iterator[Clip]:
    """Yield clips one by one, each over its whole duration."""
    return _each(infos, [_window(info) for info in infos], sampling)


def _window(info: VideoInfo, truth: VideoInfo | None = None) -> float:
    """Return how many seconds of a video are read: as long as the truth lasts, else as long as itself."""
    return (truth.duration_s if truth else None) or info.duration_s or 1.0


def _read(infos: Sequence[VideoInfo], windows: Sequence[float], sampling: Sampling, what: str) -> Clips:
    clips = np.empty((len(infos), sampling.frames, sampling.height, sampling.width, 3), np.uint8)
    for row, clip in enumerate(track(_each(infos, windows, sampling), what, len(infos))):
        clips[row] = clip
    return clips


def _each(infos: Sequence[VideoInfo], windows: Sequence[float], sampling: Sampling) -> Iterator[Clip]:
    def read(info: VideoInfo, window_s: float) -> Clip:
        return _read_frames(info, sampling) if info.path.is_dir() else read_clip(info.path, sampling.of(window_s))

    with ThreadPoolExecutor(max_workers=READERS) as readers:
        for start in range(0, len(infos), READERS):  # so that no more than a few clips wait in memory
            yield from readers.map(read, infos[start : start + READERS], windows[start : start + READERS])


def _read_frames(info: VideoInfo, sampling: Sampling) -> Clip:
    """Read a folder of frames, which has no time: spread over the whole clip."""
    files = video_files(info.path)
    chosen = (2 * np.arange(sampling.frames) + 1) * len(files) // (2 * sampling.frames)
    still = sampling.model_copy(update={"frames": 1}).of(1.0)
    read = {index: read_clip(files[index], still)[0] for index in sorted(set(chosen.tolist()))}
    return np.stack([read[index] for index in chosen.tolist()])


def alignment_notes(paired: Paired, sampling: Sampling, *, whole: bool = False) -> list[str]:
    """Return notes on missing videos, and on what was done to videos of another rate, size or length than is scored."""
    notes = []
    if paired.missing:
        there = len(paired.stimuli)
        notes.append(
            f"{len(paired.missing)} of {plural(len(paired.missing) + there, 'video')} missing "
            f"({named(paired.missing)}): every mean is over the {there} that are there, and identification among these"
        )
    if paired.extra:
        notes.append(f"skipped, no such stimulus was shown: {named(paired.extra)}")
    ours, truth = list(paired.made.values()), list(paired.shown.values())
    # Files of ours were enlarged for people, which `sampling_of` notes once.
    usual = _size(sampling) if _recorded_sampling(truth[0]) is None else _size(truth[0])
    instants = plural(sampling.frames, "instant")
    notes += _resampled(ours, f"at the truth's {instants}", sampling, usual)
    notes += [f"truth: {note}" for note in _resampled(truth, f"at {instants}", sampling, usual)]
    lengths = sorted(info.duration_s for info in truth if info.duration_s)
    if lengths and lengths[-1] > lengths[0] * (1 + TOLERANCE):
        span = f"{lengths[0]:.3g} to {lengths[-1]:.3g} s"
        notes.append(f"truth: clips last from {span}; each is sampled over its own length")
    notes += _without_time(paired, sampling)
    notes += [*_transparent(ours, ""), *_transparent(truth, "truth: ")]
    if whole:
        return [*notes, f"stretched over the truth's length, as asked for: {plural(len(paired.stimuli), 'clip')}"]
    return [*notes, *_of_other_length(paired)]


def _transparent(infos: Sequence[VideoInfo], whose: str) -> list[str]:
    """Return a note on videos that have transparent pixels."""
    names = [info.path.stem for info in infos if info.transparent]
    on = "black" if BACKGROUND == (0, 0, 0) else f"RGB {BACKGROUND}"
    count = plural(len(names), "clip")
    return [f"{whose}{count} with transparent pixels, laid on {on}: {named(names)}"] if names else []


def _resampled(infos: Sequence[VideoInfo], where: str, sampling: Sampling, usual: tuple[int, int]) -> list[str]:
    rates = Counter(
        f"{info.frames} frames" + (f" at {info.frames / info.duration_s:.3g} per second" if info.duration_s else "")
        for info in infos
        if info.frames > 1 and info.frames != sampling.frames
    )
    sizes = Counter(_size(info) for info in infos if _size(info) not in (_size(sampling), usual))
    pixels = Counter({f"{height} × {width} pixels": count for (height, width), count in sizes.items()})
    return [
        *_grouped(rates, f"sampled {where}"),
        *_grouped(pixels, f"resized to {sampling.height} × {sampling.width} pixels"),
    ]


def _grouped(kinds: Counter[str], done: str) -> list[str]:
    """Return what was done to clips of some kinds, the most common ones by name."""
    common = kinds.most_common(GROUPS)
    listed = [f"{plural(count, 'clip')} of {kind}" for kind, count in common]
    if rest := kinds.total() - sum(count for _, count in common):
        listed.append(f"{plural(rest, 'clip')} of other kinds")
    return [f"{done}: {', '.join(listed)}"] if listed else []


def _without_time(paired: Paired, sampling: Sampling) -> list[str]:
    """Return notes on clips of one frame, and on folders of frames, which have no rate."""
    stills = [name for name in paired.stimuli if paired.made[name].frames == 1]
    timeless = [name for name in paired.stimuli if paired.made[name].path.is_dir() and name not in stills]
    notes = []
    if stills and sampling.frames > 1:
        notes.append(
            f"{plural(len(stills), 'clip')} of one frame, which is repeated ({named(stills)}): scores of motion mean "
            "nothing there"
        )
    if timeless:
        notes.append(f"{plural(len(timeless), 'clip')} of frames without a rate, spread over the truth's length")
    return notes


def _of_other_length(paired: Paired) -> list[str]:
    lengths = {name: (paired.made[name].duration_s, paired.shown[name].duration_s) for name in paired.stimuli}
    known = {name: (ours, truth) for name, (ours, truth) in lengths.items() if ours and truth}
    short = [name for name, (ours, truth) in known.items() if ours < truth * (1 - TOLERANCE)]
    long = [name for name, (ours, truth) in known.items() if ours > truth * (1 + TOLERANCE)]
    notes = []
    for word, names, then in (("shorter", short, "the last frame is held"), ("longer", long, "the rest is not scored")):
        if names:
            ours, truth = known[names[0]]
            notes.append(
                f"{plural(len(names), 'clip')} {word} than the truth ({named(names)}; {ours:.3g} s for {truth:.3g} s): "
                f"{then}"
            )
    return notes


def black_note(clips: Clips, stimuli: Sequence[str]) -> list[str]:
    """Return a note on clips, (stimulus, frame, height, width, 3), that show nothing."""
    black = [name for name, clip in zip(stimuli, clips, strict=True) if clip.max() <= BLACK]
    return [f"{plural(len(black), 'clip')} all black: {named(black)}"] if black else []


def _size(sized: Sampling | VideoInfo) -> tuple[int, int]:
    return sized.height, sized.width
